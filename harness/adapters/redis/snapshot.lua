-- A shard's head and how many events are open, at one moment.
-- KEYS[1]  head   hash: head (the encoded head)
-- KEYS[2]  open   hash: ordinal -> event that waits for answers
-- It writes nothing; apply.lua says when each expires.
return {redis.call('HGET', KEYS[1], 'head') or '', redis.call('HLEN', KEYS[2])}
