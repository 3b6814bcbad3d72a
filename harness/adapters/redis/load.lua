-- A shard's state, at one moment. A script and no MULTI: a server without memory takes no MULTI, and a page must still show counts.
-- KEYS[1]  head     hash: head (the encoded head)
-- KEYS[2]  open     hash: ordinal -> event that waits for answers
-- KEYS[3]  settled  hash: ordinal -> event that waits for the ones before it
-- KEYS[4]  words    list: the dictionary of the rows
-- It writes nothing; apply.lua says when each expires.
return {
  redis.call('HGET', KEYS[1], 'head') or '',
  redis.call('HGETALL', KEYS[2]),
  redis.call('HGETALL', KEYS[3]),
  redis.call('LRANGE', KEYS[4], 0, -1),
}
