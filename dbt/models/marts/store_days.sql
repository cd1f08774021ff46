with orders as (

    select
        store_id,
        ordered_on as day,
        count(*) as orders,
        sum(net_eur) as net_eur
    from {{ ref('fct_orders') }}
    group by store_id, ordered_on

),

deliveries as (

    select
        store_id,
        delivered_on as day,
        count(*) as deliveries,
        count(*) filter (where is_late) as late,
        count(*) filter (where is_warm) as warm
    from {{ ref('fct_deliveries') }}
    group by store_id, delivered_on

),

reviews as (

    select
        orders.store_id,
        orders.ordered_on as day,
        avg(reviews.rating) as mean_rating
    from {{ ref('stg_reviews') }} as reviews
    inner join {{ ref('fct_orders') }} as orders using (order_id)
    group by orders.store_id, orders.ordered_on

),

weather as (

    select
        store_id,
        {{ paris_day('observed_at') }} as day,
        sum(rain_mm) as rain_mm,
        max(celsius) as warmest_celsius
    from {{ ref('stg_weather') }}
    group by store_id, {{ paris_day('observed_at') }}

)

select
    store_id,
    day,
    coalesce(orders.orders, 0)::integer as orders,
    coalesce(orders.net_eur, 0)::numeric(12, 2) as net_eur,
    coalesce(deliveries.deliveries, 0)::integer as deliveries,
    coalesce(deliveries.late, 0)::integer as late,
    coalesce(deliveries.warm, 0)::integer as warm,
    reviews.mean_rating::numeric(3, 2) as mean_rating,
    weather.rain_mm::numeric(6, 1) as rain_mm,
    weather.warmest_celsius
from orders
full join deliveries using (store_id, day)
left join reviews using (store_id, day)
left join weather using (store_id, day)
