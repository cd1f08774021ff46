{{
    config(
        materialized='incremental',
        incremental_strategy='merge',
        unique_key='delivery_id',
        on_schema_change='fail',
        indexes=[{'columns': ['delivered_on']}],
    )
}}

with deliveries as (

    select * from {{ ref('stg_deliveries') }}

),

routes as (

    select * from {{ ref('stg_van_routes') }}

),

tours as (

    select * from {{ ref('int_van_tours') }}

),

joined as (

    select
        deliveries.delivery_id,
        deliveries.order_id,
        deliveries.route_id,
        routes.van_id,
        routes.store_id,
        {{ paris_day('deliveries.delivered_at') }} as delivered_on,
        deliveries.promised_to,
        deliveries.delivered_at,
        deliveries.delivery_status,
        deliveries.delivered_at > deliveries.promised_to as is_late,
        greatest(
            extract(
                epoch from deliveries.delivered_at - deliveries.promised_to
            ) / 60,
            0
        )::numeric(8, 1) as minutes_late,
        deliveries.celsius_at_door,
        deliveries.celsius_at_door > 8 as is_warm,
        tours.minutes_above_limit::integer as tour_minutes_above_limit
    from deliveries
    left join routes using (route_id)
    left join tours using (route_id)

)

select * from joined
{% if is_incremental() %}
where {{ since_last_run('delivered_at') }}
{% endif %}
