//! The Lua text, all of it. Each script is one atomic step (S1).
//!
//! Keys of every script, all in one slot: 1 the lock, 2 its *card*, 3 its holders, 4 its line.
//!
//! - The **lock** is a string that expires: the token of an exclusive holder, or `shared:TOKEN` or
//!   `permits:N:TOKEN` of the latest of several. It alone decides whether the key is taken: who
//!   deletes it by hand has freed the key, and who sets it with `SET NX PX` has locked it.
//! - The **card** is a hash: `f` the last fence, `t`, `o`, `a` token, owner and time in µs of the last
//!   exclusive holder, `h:TOKEN` the fence, time and owner of one of several holders, `p:TOKEN` until when a
//!   place in line lives, in ms, and its mode.
//! - The **holders** are a sorted set of tokens by the end of their leases in ms, meaningful only while
//!   the lock says `shared:` or `permits:`.
//! - The **line** is a sorted set of tokens by arrival.
//!
//! Scripts read all that can be of a wrong type before they write, so that an error leaves nothing
//! held (S12). A fence is never joined to a string but by `%.0f`: Lua would print `1.79e+15`.

use std::sync::LazyLock;

/// What every script but the fast ways begins with: who holds, by the server's clock.
///
/// `held` is false, `exclusive` (also for a string that is not ours), `shared` or `permits:N`; `several` how
/// many hold it in the latter two.
const STATE: &str = "\
local lock, card, holders, line = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local day = 93600000 -- and two hours, see the shortest way of an attempt
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local now = math.floor(micros / 1000)
local value = redis.call('GET', lock)
local held, several = false, 0
if value then
  held = string.match(value, '^(shared):') or string.match(value, '^(permits:%d+):') or 'exclusive'
  if held ~= 'exclusive' then
    several = redis.call('ZCOUNT', holders, '(' .. now, '+inf')
    if several == 0 then held = 'exclusive' end
  end
end
local function text(n) return string.format('%.0f', n) end
-- A fence that is ahead of the clock is remembered until the clock has passed it.
local function stay(ttl, fence)
  redis.call('PEXPIRE', card, day + ttl + math.max(0, math.ceil((fence - micros) / 1000)))
end
local function place(token)
  local stored = redis.call('HGET', card, 'p:' .. token)
  if not stored then return 0, '' end
  local ends, mode = string.match(stored, '^(%d+) (.+)$')
  if not ends then error('LOCKCORRUPT a place in line reads ' .. stored) end
  ends = tonumber(ends)
  -- No place lives for so long: the clock has been set back.
  if ends > now + 60000 then ends = 0 end
  return ends, mode
end
local function leave(token)
  redis.call('ZREM', line, token)
  redis.call('HDEL', card, 'p:' .. token)
end
local function admits(mode, held, count)
  if not held then return true end
  if mode == 'exclusive' or held ~= mode then return false end
  return mode == 'shared' or count < tonumber(string.sub(mode, 9))
end
-- Walks the live places from the head until `visit` returns true; the dead are dropped if `prune`.
local function walk(prune, visit)
  local at = 0
  while true do
    local batch = redis.call('ZRANGE', line, at, at + 15)
    if #batch == 0 then return end
    for _, token in ipairs(batch) do
      local ends, mode = place(token)
      if ends > now then
        at = at + 1
        if visit(token, mode, ends) then return end
      elseif prune then
        leave(token)
      else
        at = at + 1
      end
    end
  end
end
";

/// Tells whoever could be served now: the tokens at the head of the line, or `*` if there is none.
///
/// By `pcall`: a user without the right to publish must still be able to release.
const WAKE: &str = "\
local function wake(publish, held, several)
  local next, none = {}, true
  walk(true, function(token, mode)
    none = false
    if #next == 64 or not admits(mode, held, several) then return true end
    next[#next + 1] = token
    held, several = mode, several + 1
  end)
  if none and held ~= 'exclusive' then next[1] = '*' end
  if next[1] then redis.pcall(publish, card, table.concat(next, ' ')) end
end
";

/// Describes up to `limit` holders: owner, mode, fence, time of acquisition in µs, ms left; an empty text
/// stands for what is not known.
const DESCRIBE: &str = "\
local function describe(limit)
  if not held then return {} end
  if held == 'exclusive' then
    local left = redis.call('PTTL', lock)
    local own = redis.call('HMGET', card, 't', 'o', 'f', 'a')
    if own[1] == value then return {{own[2], held, own[3], own[4], left}} end
    return {{'', '', '', '', left}}
  end
  local all = {}
  local live = redis.call('ZRANGEBYSCORE', holders, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, limit)
  for i = 1, #live, 2 do
    local stored = redis.call('HGET', card, 'h:' .. live[i]) or ''
    local fence, at, owner = string.match(stored, '^(%d+) (%d+) (.+)$')
    all[#all + 1] = {owner or '', held, fence or '', at or '', live[i + 1] - now}
  end
  return all
end
";

/// The shortest way of an attempt: an exclusive claim on a free key without a line.
const ATTEMPT_FREE: &str = "\
if ARGV[4] == 'exclusive' and redis.call('EXISTS', KEYS[1], KEYS[4]) == 0 then
  local time = redis.call('TIME')
  local micros = time[1] * 1000000 + time[2]
  local last = tonumber(redis.call('HGET', KEYS[2], 'f') or 0)
  local fence = last and math.max(last + 1, micros, tonumber(ARGV[6]))
  if not fence or fence > 9007199254740991 then
    return redis.error_reply('LOCKCORRUPT the fence cannot rise any more')
  end
  local digits = string.format('%.0f', fence)
  local at = fence == micros and digits or string.format('%.0f', micros)
  local ttl = tonumber(ARGV[2])
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  redis.call('HSET', KEYS[2], 'f', digits, 't', ARGV[1], 'o', ARGV[3], 'a', at)
  -- Once an hour is enough, for it lasts so much longer than a day.
  if ttl > 3600000 or math.floor(last / 3600000000) ~= math.floor(micros / 3600000000) then
    redis.call('PEXPIRE', KEYS[2], 93600000 + ttl + math.ceil((fence - micros) / 1000))
  end
  return {1, digits}
end
";

/// Takes a free key, repeats a hold of one's own (same fence, lease re-armed, S2), takes or keeps a place
/// in line, or changes nothing.
///
/// Arguments: 1 token, 2 TTL in ms, 3 owner, 4 mode, 5 life of a place in ms or 0 for none, 6 floor of the fence
/// or 0, 7 command to publish with. Answers: `{1, fence}`; `{0, ms until it may be free or -1, how many are ahead or -1,
/// holders}`.
const ATTEMPT: &str = "\
local token, ttl, owner, mode = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local patience, floor, publish = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]
local last = tonumber(redis.call('HGET', card, 'f') or 0)
local fence = last and math.max(last + 1, micros, floor)
if not fence or fence > 9007199254740991 then
  return redis.error_reply('LOCKCORRUPT the fence cannot rise any more')
end
local function clash(stored) return redis.error_reply('LOCKMODE ' .. stored .. ' ' .. mode) end
local function remember(fence)
  redis.call('HSET', card, 'f', text(fence))
  stay(ttl, fence)
end
local function hold()
  redis.call('ZADD', holders, now + ttl, token)
  local latest = redis.call('ZRANGE', holders, -1, -1, 'WITHSCORES')[2]
  redis.call('SET', lock, mode .. ':' .. token, 'PXAT', latest)
  redis.call('PEXPIREAT', holders, latest + day)
end

if value == token then
  if mode ~= 'exclusive' then return clash('exclusive') end
  local own = redis.call('HMGET', card, 't', 'f', 'a')
  if own[1] == token then fence = math.max(tonumber(own[2]), floor) end
  redis.call('PEXPIRE', lock, ttl)
  redis.call('HSET', card, 't', token, 'o', owner, 'a', own[1] == token and own[3] or text(micros))
  remember(fence)
  return {1, text(fence)}
end
local ends = several > 0 and redis.call('ZSCORE', holders, token)
if ends and tonumber(ends) > now then
  if held ~= mode then return clash(held) end
  local stored = redis.call('HGET', card, 'h:' .. token)
  local first, at = string.match(stored or '', '^(%d+) (%d+) ')
  local own = math.max(tonumber(first or text(fence)), floor)
  hold()
  redis.call('HSET', card, 'h:' .. token, text(own) .. ' ' .. (at or text(micros)) .. ' ' .. owner)
  remember(math.max(last, own))
  return {1, text(own)}
end
local permits = string.sub(mode, 1, 8) == 'permits:'
if permits and held and held ~= mode and string.sub(held, 1, 8) == 'permits:' then return clash(held) end

local queued = redis.call('ZSCORE', line, token)
if queued then
  local until_, stored = place(token)
  if until_ <= now then
    leave(token)
    queued = false
  elseif stored ~= mode then
    return clash(stored)
  end
end
local free, wakes, other = admits(mode, held, several), -1, nil
local crowd_held, crowd = held, several
walk(true, function(next, its, ends)
  if next == token then return true end
  if permits and its ~= mode and string.sub(its, 1, 8) == 'permits:' then
    other = its
    return true
  end
  if wakes < 0 then wakes = ends - now end
  crowd_held, crowd = its, crowd + 1
  free = free and admits(mode, crowd_held, crowd)
  return not free and not permits
end)
if other then return clash(other) end

if free then
  if mode == 'exclusive' then
    redis.call('SET', lock, token, 'PX', ttl)
    redis.call('HSET', card, 't', token, 'o', owner, 'a', text(micros))
  else
    local dead = redis.call('ZRANGEBYSCORE', holders, '-inf', held and now or '+inf')
    for _, gone in ipairs(dead) do
      redis.call('ZREM', holders, gone)
      redis.call('HDEL', card, 'h:' .. gone)
    end
    hold()
    redis.call('HSET', card, 'h:' .. token, text(fence) .. ' ' .. text(micros) .. ' ' .. owner)
  end
  remember(fence)
  if queued then
    leave(token)
    if mode ~= 'exclusive' then wake(publish, mode, several + 1) end
  end
  return {1, text(fence)}
end

local ahead = -1
if patience > 0 then
  if not queued then
    local tail = redis.call('ZRANGE', line, -1, -1, 'WITHSCORES')[2]
    redis.call('ZADD', line, (tonumber(tail) or 0) + 1, token)
  end
  redis.call('HSET', card, 'p:' .. token, text(now + patience) .. ' ' .. mode)
  stay(ttl, last)
  redis.call('PEXPIRE', line, day)
  ahead = redis.call('ZRANK', line, token) + (held == 'exclusive' and 1 or several)
elseif wakes >= 0 then
  ahead = redis.call('ZCARD', line) + (held == 'exclusive' and 1 or several)
end
if held then
  local left = redis.call('PTTL', lock)
  if held ~= 'exclusive' then
    local first = redis.call('ZRANGEBYSCORE', holders, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    left = first[2] - now
  end
  if left >= 0 and (wakes < 0 or left < wakes) then wakes = left end
end
return {0, wakes, ahead, describe(16)}
";

/// Renews a hold or refreshes a place in line.
///
/// Arguments: 1 token, 2 TTL in ms, 3 life of a place in ms. Answers: `{1}` holds, `{2, ahead}` waits, `{0}` gone.
const KEEP: &str = "\
local token, ttl, patience = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local last = tonumber(redis.call('HGET', card, 'f') or 0) or 0
if value == token then
  redis.call('PEXPIRE', lock, ttl)
  stay(ttl, last)
  return {1}
end
local ends = several > 0 and redis.call('ZSCORE', holders, token)
if ends and tonumber(ends) > now then
  redis.call('ZADD', holders, now + ttl, token)
  local latest = redis.call('ZRANGE', holders, -1, -1, 'WITHSCORES')[2]
  redis.call('PEXPIREAT', lock, latest)
  redis.call('PEXPIREAT', holders, latest + day)
  stay(ttl, last)
  return {1}
end
local till, mode = place(token)
if till == 0 or not redis.call('ZSCORE', line, token) then return {0} end
if till <= now then
  leave(token)
  return {0}
end
redis.call('HSET', card, 'p:' .. token, text(now + patience) .. ' ' .. mode)
stay(ttl, last)
redis.call('PEXPIRE', line, day)
local free, ahead = admits(mode, held, several), held == 'exclusive' and 1 or several
local crowd_held, crowd = held, several
walk(true, function(next, its)
  if next == token then return true end
  crowd_held, crowd, ahead = its, crowd + 1, ahead + 1
  free = free and admits(mode, crowd_held, crowd)
end)
return {2, free and 0 or ahead}
";

/// The shortest way of a release: an exclusive holder, and nobody in line.
const RELEASE_FREE: &str = "\
if redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('EXISTS', KEYS[4]) == 0 then
  redis.call('DEL', KEYS[1])
  redis.pcall(ARGV[2], KEYS[2], '*')
  return 1
end
";

/// Ends a hold, or a place in line, and wakes who is next.
///
/// Arguments: 1 token, 2 command to publish with. Answers 1, or 0 if there was neither.
const RELEASE: &str = "\
local token, publish = ARGV[1], ARGV[2]
local found = 0
if value == token then
  redis.call('DEL', lock)
  held, found = false, 1
else
  local ends = several > 0 and redis.call('ZSCORE', holders, token)
  if ends and tonumber(ends) > now then
    redis.call('ZREM', holders, token)
    redis.call('HDEL', card, 'h:' .. token)
    several, found = several - 1, 1
    if several == 0 then
      redis.call('DEL', lock, holders)
      held = false
    else
      local latest = redis.call('ZRANGE', holders, -1, -1, 'WITHSCORES')[2]
      redis.call('PEXPIREAT', lock, latest)
    end
  else
    local ends = place(token)
    if ends == 0 then return 0 end
    leave(token)
    if ends > now then found = 1 end
  end
end
wake(publish, held, several)
return found
";

/// Looks for a waiter and writes nothing (S10).
///
/// Arguments: 1 token, 2 mode. Answers: `{1}` an attempt may succeed, `{0, ms until that may change or -1}`, or
/// with 2 instead of 0 that the token should stand in line: others do, or hold in another mode.
const PEEK: &str = "\
local token, mode = ARGV[1], ARGV[2]
local free, wakes = admits(mode, held, several), -1
local crowd_held, crowd = held, several
walk(false, function(next, its, ends)
  if next == token then return true end
  if wakes < 0 then wakes = ends - now end
  crowd_held, crowd = its, crowd + 1
  free = free and admits(mode, crowd_held, crowd)
  return not free
end)
if free then return {1} end
local crowded = wakes >= 0 or (held and held ~= mode)
local answer = crowded and not redis.call('ZSCORE', line, token) and 2 or 0
if held then
  local left = redis.call('PTTL', lock)
  if held ~= 'exclusive' then
    local first = redis.call('ZRANGEBYSCORE', holders, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    left = first[2] - now
  end
  if left >= 0 and (wakes < 0 or left < wakes) then wakes = left end
end
return {answer, wakes}
";

/// Tells who holds and how many wait, and writes nothing (S10). Answers: `{holders, waiting}`.
const INSPECT: &str = "\
local waiting = 0
walk(false, function() waiting = waiting + 1 end)
return {describe(-1), waiting}
";

/// Takes the lock from whoever holds it, whatever is stored under its name; the card keeps the fence.
///
/// Arguments: 1 command to publish with. Answers how many held it.
const EVICT: &str = "\
local count = 0
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
const EVICT_WAKE: &str = "\
if count > 0 then wake(ARGV[1], held, several) end
return count
";

/// Removes what the dead left behind, and the card with its fence if nothing is held or waited for and
/// the fence is below now, so that the next is higher anyway. Answers how many records went.
const PURGE: &str = "\
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

/// What comes before the body of a fenced script, in which `KEYS` and `ARGV` are the caller's.
///
/// Keys: 1 the data, 2 the highest fence that has written it. Arguments: 1 fence, then the body's. The fence is
/// raised first: were the body to fail half-way, what it wrote would be unprotected.
const FENCED: &str = "\
local stored, fence, arguments = redis.call('GET', KEYS[2]), tonumber(ARGV[1]), {}
if stored then
  local highest = tonumber(stored)
  if not highest then return redis.error_reply('LOCKCORRUPT the highest fence reads ' .. stored) end
  if fence < highest then return redis.error_reply('LOCKSTALE ' .. stored) end
end
redis.call('SET', KEYS[2], ARGV[1])
for at = 2, #ARGV do arguments[at - 1] = ARGV[at] end
return (function(KEYS, ARGV)
";

/// Goes on after the body.
const FENCED_END: &str = "
end)({KEYS[1]}, arguments)
";

/// Makes the text of a fenced script.
pub(crate) fn fenced(body: &str) -> String {
    [FENCED, body, FENCED_END].concat()
}

/// The fenced script that sets a string.
pub(crate) static SET_FENCED: LazyLock<redis::Script> =
    LazyLock::new(|| redis::Script::new(&fenced("redis.call('SET', KEYS[1], ARGV[1])")));

/// One script, hashed once.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) hash: String,
    pub(crate) text: String,
}

/// The scripts of this version.
#[derive(Debug)]
pub(crate) struct Scripts {
    pub(crate) attempt: Script,
    pub(crate) keep: Script,
    pub(crate) release: Script,
    pub(crate) peek: Script,
    pub(crate) inspect: Script,
    pub(crate) evict: Script,
    pub(crate) purge: Script,
}

pub(crate) static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| Scripts {
    attempt: join(&[ATTEMPT_FREE, STATE, WAKE, DESCRIBE, ATTEMPT]),
    keep: join(&[STATE, KEEP]),
    release: join(&[RELEASE_FREE, STATE, WAKE, RELEASE]),
    peek: join(&[STATE, PEEK]),
    inspect: join(&[STATE, DESCRIBE, INSPECT]),
    evict: join(&[EVICT, STATE, WAKE, EVICT_WAKE]),
    purge: join(&[STATE, PURGE]),
});

fn join(parts: &[&str]) -> Script {
    let text = parts.concat();
    Script { hash: redis::Script::new(&text).get_hash().to_owned(), text }
}
