-- Questions that the page does not answer, asked of the run's own tables: duckdb < examples/queries.sql
-- Run it in a project's folder; replace * by a task, run and decision to ask about one of them.

-- the most confident mistakes, with what the strong model said
SELECT example_id, confidence, cheap_answer, label, strong_answer
FROM 'runs/*/*/*/predictions.parquet'
WHERE NOT cheap_correct AND confidence IS NOT NULL
ORDER BY confidence DESC, example_id LIMIT 20;

-- which label is taken for which, and how sure the cheap model was of it
SELECT label, cheap_answer, count(*) AS n, round(avg(confidence), 3) AS confidence
FROM 'runs/*/*/*/predictions.parquet'
WHERE NOT cheap_correct
GROUP BY label, cheap_answer ORDER BY n DESC, label, cheap_answer;

-- where the two models agree with each other and not with the label: the label may be the one that is wrong
SELECT example_id, label, cheap_answer
FROM 'runs/*/*/*/predictions.parquet'
WHERE cheap_answer = strong_answer AND NOT cheap_correct AND NOT strong_correct
ORDER BY confidence DESC, example_id;

-- accuracy of the whole at round escalation rates
SELECT round(escalation_rate, 1) AS escalated, round(max(system_accuracy), 4) AS accuracy, min(threshold) AS threshold
FROM 'runs/*/*/*/sweep.parquet'
WHERE split = 'certify'
GROUP BY escalated ORDER BY escalated;
