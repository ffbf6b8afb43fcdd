-- Events before which the timeline lacked something when they came. History that is filled in later goes before them and
-- is no news: a client that reads on from further back is told of a gap there for good.
ALTER TABLE events ADD COLUMN after_gap BOOLEAN;  -- live events only; null: false
UPDATE events SET after_gap = TRUE
WHERE position IS NOT NULL AND event_num IN (SELECT event_num FROM gaps);
