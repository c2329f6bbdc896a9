-- Only MySQL needs a step of its own here.
SELECT 1;
