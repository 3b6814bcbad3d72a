-- Keeps plain ids beside the rows of a shard; done again it changes nothing.
-- KEYS[1]  plain:   start of hashes, a chunk of 256 rows each: key of an event -> hash of its unit (8 bytes), then its plain id;
--          each expires `keep` after the last of its ids was written, as its rows do
-- ARGV[1]  keep, milliseconds   then of each id, flat: chunk, key, value
for i = 2, #ARGV, 3 do
  redis.call('HSET', KEYS[1] .. ARGV[i], ARGV[i + 1], ARGV[i + 2])
  redis.call('PEXPIRE', KEYS[1] .. ARGV[i], ARGV[1])
end
return 1
