with tours as (

    select * from {{ ref('stg_van_routes') }}

),

readings as (

    select * from {{ ref('stg_temperatures') }}

)

select
    tours.route_id,
    max(readings.celsius) as warmest_celsius,
    count(*) filter (where readings.celsius > 8) as minutes_above_limit
from tours
-- A message of a van does not say which tour it is on: the clock does.
left join readings
    on readings.van_id = tours.van_id
    and readings.measured_at >= tours.departed_at
    and readings.measured_at < tours.returned_at
group by tours.route_id
