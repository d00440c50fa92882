//! What several scripts have in common: who holds, who is next, and how that is told.

/// What every script but the fast ways begins with: who holds, by the server's clock.
///
/// `held` is false, `exclusive` (also for a string that is not ours), `shared` or `permits:N`; `several` how
/// many hold it in the latter two.
pub(super) const STATE: &str = "\
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
-- A fence that is ahead of the clock is remembered until the clock has passed it. Never shortened, for
-- others may hold for longer; an hour less is still more than a day, so most calls write nothing.
local function stay(ttl, fence)
  local life = day + ttl + math.max(0, math.ceil((fence - micros) / 1000))
  if redis.call('PTTL', card) < life - 3600000 then redis.call('PEXPIRE', card, text(life)) end
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

/// Tells when to look again who has `wakes` ms left because of those before it in line, or -1.
///
/// Nobody tells when a client that is not ours lets go, so whoever is next looks often.
pub(super) const SOONER: &str = "\
local function sooner(wakes)
  if not held then return wakes end
  local left = redis.call('PTTL', lock)
  if held ~= 'exclusive' then
    local first = redis.call('ZRANGEBYSCORE', holders, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    left = first[2] - now
  elseif wakes < 0 and (left < 0 or left > 50) and redis.call('HGET', card, 't') ~= value then
    left = 50
  end
  return left >= 0 and (wakes < 0 or left < wakes) and left or wakes
end
";

/// Tells whoever could be served now: the tokens at the head of the line, or `*` if there is none.
///
/// By `pcall`: a user without the right to publish must still be able to release.
pub(super) const WAKE: &str = "\
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
pub(super) const DESCRIBE: &str = "\
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
