//! Taking a lock, or a place in line.

/// The shortest way of an attempt: an exclusive claim on a free key without a line.
pub(super) const ATTEMPT_FREE: &str = "\
if not ARGV[5] and redis.call('EXISTS', KEYS[1], KEYS[4]) == 0 then
  local time = redis.call('TIME')
  local micros = time[1] * 1000000 + time[2]
  local last = tonumber(redis.call('HGET', KEYS[2], 'f') or 0)
  local fence = micros
  if not (last and last < micros) then
    if not (last and last < 9007199254740991) then
      return redis.error_reply('LOCKCORRUPT the fence cannot rise any more')
    end
    fence = last + 1
  end
  local digits = string.format('%.0f', fence)
  local at = fence == micros and digits or string.format('%.0f', micros)
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  redis.call('HSET', KEYS[2], 'f', digits, 't', ARGV[1], 'o', ARGV[3], 'a', at)
  -- Once an hour is enough, for it lasts so much longer than a day.
  if last < micros - micros % 3600000000 or fence > micros or tonumber(ARGV[2]) > 3600000 then
    local life = 93600000 + ARGV[2] + math.ceil((fence - micros) / 1000)
    redis.call('PEXPIRE', KEYS[2], string.format('%.0f', life))
  end
  return fence
end
";

/// Takes a free key, repeats a hold of one's own (same fence, lease re-armed, S2), takes or keeps a place
/// in line, or changes nothing.
///
/// Arguments: 1 token, 2 TTL in ms, 3 owner, 4 life of a place in ms or 0 for none, 5 floor of the fence or 0, 6 mode,
/// 7 command to publish with; those at the end may be left out, for an exclusive claim all but three. Answers: the
/// fence, or `{ms until it may be free or -1, how many are ahead or -1, holders}`.
pub(super) const ATTEMPT: &str = "\
local token, ttl, owner, mode = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[6] or 'exclusive'
local patience, floor, publish = tonumber(ARGV[4] or 0), tonumber(ARGV[5] or 0), ARGV[7]
local last = tonumber(redis.call('HGET', card, 'f') or 0)
local fence = last and math.max(last + 1, micros, floor)
if not (fence and fence <= 9007199254740991) then
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
  redis.call('PEXPIREAT', holders, text(latest + day))
end

if value == token then
  if mode ~= 'exclusive' then return clash('exclusive') end
  local own = redis.call('HMGET', card, 't', 'f', 'a')
  if own[1] == token then fence = math.max(tonumber(own[2]), floor) end
  redis.call('PEXPIRE', lock, ARGV[2])
  redis.call('HSET', card, 't', token, 'o', owner, 'a', own[1] == token and own[3] or text(micros))
  remember(fence)
  return fence
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
  return own
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
    redis.call('SET', lock, token, 'PX', ARGV[2])
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
  return fence
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
wakes = sooner(wakes)
return {wakes, ahead, describe(16)}
";
