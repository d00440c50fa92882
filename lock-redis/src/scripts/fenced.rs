//! Scripts of users, refused to whoever has a stale fence.

use std::sync::LazyLock;

/// What comes before the body of a fenced script, in which `KEYS` and `ARGV` are the caller's.
///
/// Keys: 1 the data, 2 the highest fence that has written it. Arguments: 1 fence, then the body's. The fence is
/// raised first: were the body to fail half-way, what it wrote would be unprotected.
const FENCED: &str = "\
local stored, fence, arguments = redis.call('GET', KEYS[2]), tonumber(ARGV[1]), {}
if stored then
  local highest = tonumber(stored)
  if not highest or highest ~= highest then return redis.error_reply('LOCKCORRUPT the highest fence reads ' .. stored) end
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
