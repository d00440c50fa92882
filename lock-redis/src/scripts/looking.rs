//! Looking, which writes nothing (S10).

/// Looks for a waiter and writes nothing (S10).
///
/// Arguments: 1 token, 2 mode. Answers: `{1}` an attempt may succeed, `{0, ms until that may change or -1}`, or
/// with 2 instead of 0 that the token should stand in line: others do, or hold in another mode.
pub(super) const PEEK: &str = "\
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
return {answer, sooner(wakes)}
";

/// Tells who holds and how many wait, and writes nothing (S10). Answers: `{holders, waiting}`.
pub(super) const INSPECT: &str = "\
local waiting = 0
walk(false, function() waiting = waiting + 1 end)
return {describe(-1), waiting}
";
