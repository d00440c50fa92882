//! What an operator takes away: locks of others, and what the dead left behind.

/// Takes the lock from whoever holds it, whatever is stored under its name; the card keeps the fence.
///
/// What is stored in the place of its companions goes too, and places in line that make no sense: this is the
/// way out of that.
///
/// Arguments: 1 command to publish with. Answers how many held it.
pub(super) const EVICT: &str = "\
local count = 0
for i, kind in ipairs({'hash', 'zset', 'zset'}) do
  if redis.call('TYPE', KEYS[i + 1]).ok ~= kind then redis.call('DEL', KEYS[i + 1]) end
end
for _, token in ipairs(redis.call('ZRANGE', KEYS[4], 0, -1)) do
  local stored = redis.call('HGET', KEYS[2], 'p:' .. token)
  if stored and not string.match(stored, '^%d+ .+$') then
    redis.call('ZREM', KEYS[4], token)
    redis.call('HDEL', KEYS[2], 'p:' .. token)
  end
end
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'string' then
  local time = redis.call('TIME')
  local now = math.floor((time[1] * 1000000 + time[2]) / 1000)
  local value = redis.call('GET', KEYS[1])
  if string.match(value, '^shared:') or string.match(value, '^permits:%d+:') then
    count = redis.call('ZCOUNT', KEYS[3], '(' .. now, '+inf')
  end
end
if kind ~= 'none' then count = math.max(count, 1) end
for _, token in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do redis.call('HDEL', KEYS[2], 'h:' .. token) end
redis.call('DEL', KEYS[1], KEYS[3])
";

/// Goes on after [`EVICT`] with the state as it is then.
pub(super) const EVICT_WAKE: &str = "\
if count > 0 then wake(ARGV[1], held, several) end
return count
";

/// Removes what the dead left behind, and the card with its fence if nothing is held or waited for and
/// the fence is below now, so that the next is higher anyway. Answers how many records went.
pub(super) const PURGE: &str = "\
local gone = 0
local dead = redis.call('ZRANGEBYSCORE', holders, '-inf', several > 0 and now or '+inf')
for _, token in ipairs(dead) do
  redis.call('ZREM', holders, token)
  redis.call('HDEL', card, 'h:' .. token)
  gone = gone + 1
end
for _, token in ipairs(redis.call('ZRANGE', line, 0, -1)) do
  if place(token) <= now then
    leave(token)
    gone = gone + 1
  end
end
local last = tonumber(redis.call('HGET', card, 'f') or 0)
if not held and redis.call('EXISTS', line) == 0 and last and last < micros then
  gone = gone + redis.call('DEL', card)
end
return gone
";
