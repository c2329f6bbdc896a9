-- Stores a batch of likes and unlikes in one call: behaviors, completed ledger rows, read models and counts. The counts of its
-- videos are locked in one order, so batches wait for each other without a deadlock.
CREATE OR REPLACE FUNCTION peer_likes(batch json) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO likewise_like_counts (resource_type, resource_id, like_count, revision, updated_at)
        SELECT DISTINCT 'video', r.video_id, 0, 0, now() AT TIME ZONE 'UTC'
        FROM json_to_recordset(batch) AS r(video_id bigint) ORDER BY 2
        ON CONFLICT DO NOTHING;
    PERFORM 1 FROM likewise_like_counts c
        WHERE c.resource_type = 'video'
        AND c.resource_id IN (SELECT r.video_id FROM json_to_recordset(batch) AS r(video_id bigint))
        ORDER BY c.resource_id FOR UPDATE;
    INSERT INTO user_behaviors (event_id, user_id, resource_type, resource_id, behavior_type, version, source,
        behavior_time, created_at)
        SELECT r.event_id, r.user_id, 'video', r.video_id, r.action, r.version, 'peer', r.at, r.at
        FROM json_to_recordset(batch)
            AS r(event_id text, user_id bigint, video_id bigint, action text, version bigint, at timestamp)
        ON CONFLICT (event_id) DO NOTHING;
    INSERT INTO sync_events (id, event_type, resource_type, resource_id, user_id, action_type, status, version,
        retry_count, max_retries, priority, fencing_token, created_at, updated_at, processed_at)
        SELECT r.event_id, 'video_like', 'video', r.video_id, r.user_id, r.action, 'completed', r.version, 0, 5, 0, 1,
            r.at, r.at, r.at
        FROM json_to_recordset(batch)
            AS r(event_id text, user_id bigint, video_id bigint, action text, version bigint, at timestamp)
        ON CONFLICT (id) DO NOTHING;
    WITH newest AS (
        SELECT DISTINCT ON (r.user_id, r.video_id) r.user_id, r.video_id, r.version, r.at, r.action = 'like' AS liked
        FROM json_to_recordset(batch)
            AS r(user_id bigint, video_id bigint, action text, version bigint, at timestamp)
        ORDER BY r.user_id, r.video_id, r.version DESC
    ), known AS (
        SELECT l.user_id, l.video_id, l.version, l.deleted_at IS NULL AS liked
        FROM newest n JOIN video_likes l ON l.user_id = n.user_id AND l.video_id = n.video_id
    ), written AS (
        INSERT INTO video_likes AS l (user_id, video_id, version, created_at, deleted_at)
        SELECT n.user_id, n.video_id, n.version, n.at, CASE WHEN NOT n.liked THEN n.at END FROM newest n
        ON CONFLICT (user_id, video_id) DO UPDATE SET version = EXCLUDED.version, deleted_at = EXCLUDED.deleted_at
        WHERE l.version < EXCLUDED.version
    ), delta AS (
        SELECT n.video_id, SUM(n.liked::int - COALESCE(k.liked, false)::int) AS likes
        FROM newest n LEFT JOIN known k ON k.user_id = n.user_id AND k.video_id = n.video_id
        WHERE k.version IS NULL OR k.version < n.version
        GROUP BY n.video_id
    )
    UPDATE likewise_like_counts c SET like_count = c.like_count + d.likes, revision = c.revision + 1
        FROM delta d WHERE c.resource_type = 'video' AND c.resource_id = d.video_id AND d.likes <> 0;
END $$
