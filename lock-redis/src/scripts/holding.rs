//! Renewing and giving back what is held or waited for.

/// Renews a hold or refreshes a place in line.
///
/// Arguments: 1 token, 2 TTL in ms, 3 life of a place in ms. Answers: `{1}` holds, `{2, ahead}` waits, `{0}` gone.
pub(super) const KEEP: &str = "\
local token, ttl, patience = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local last = tonumber(redis.call('HGET', card, 'f') or 0) or 0
if value == token then
  redis.call('PEXPIRE', lock, ARGV[2])
  stay(ttl, last)
  return {1}
end
local ends = several > 0 and redis.call('ZSCORE', holders, token)
if ends and tonumber(ends) > now then
  redis.call('ZADD', holders, now + ttl, token)
  local latest = redis.call('ZRANGE', holders, -1, -1, 'WITHSCORES')[2]
  redis.call('PEXPIREAT', lock, latest)
  redis.call('PEXPIREAT', holders, text(latest + day))
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
pub(super) const RELEASE_FREE: &str = "\
if redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('EXISTS', KEYS[4]) == 0 then
  redis.call('DEL', KEYS[1])
  redis.pcall(ARGV[2] or 'PUBLISH', KEYS[2], '*')
  return 1
end
";

/// Ends a hold, or a place in line, and wakes who is next.
///
/// Arguments: 1 token, 2 command to publish with, unless it is `PUBLISH`. Answers 1, or 0 if there was neither.
pub(super) const RELEASE: &str = "\
local token, publish = ARGV[1], ARGV[2] or 'PUBLISH'
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
