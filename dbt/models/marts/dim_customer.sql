with versions as (

    select * from {{ ref('customers_snapshot') }}

),

numbered as (

    select
        *,
        row_number() over (
            partition by customer_id order by dbt_valid_from
        ) as version
    from versions

)

select
    dbt_scd_id as customer_key,
    customer_id,
    first_name || ' ' || last_name as customer_name,
    city,
    postcode,
    loyalty,
    is_subscriber,
    registered_on,
    version::integer as version,
    -- Of the time before the first look we know nothing better than this.
    case
        when version = 1
            then registered_on::timestamp at time zone 'Europe/Paris'
        else dbt_valid_from at time zone 'UTC'
    end as valid_from,
    dbt_valid_to at time zone 'UTC' as valid_to,
    dbt_valid_to is null as is_current
from numbered
