with days as (

    select generate_series::date as date_day
    from generate_series(
        '2026-01-01'::timestamp, '2027-12-31'::timestamp, '1 day'
    )

),

holidays as (

    select * from {{ ref('public_holidays') }}

)

select
    days.date_day,
    to_char(days.date_day, 'FMDay') as day_name,
    extract(isodow from days.date_day)::integer as day_of_week,
    extract(week from days.date_day)::integer as iso_week,
    date_trunc('month', days.date_day)::date as month_start,
    extract(isodow from days.date_day) >= 6 as is_weekend,
    holidays.holiday is not null as is_holiday,
    holidays.holiday as holiday_name
from days
left join holidays using (date_day)
