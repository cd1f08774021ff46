select
    *,
    -- A nightly run that is repeated for an older night says which one.
    coalesce(
        nullif('{{ env_var("FLOW360_DBT_AT", "") }}', '')::timestamptz, now()
    ) at time zone 'UTC' as observed_at
from {{ ref('stg_customers') }}
