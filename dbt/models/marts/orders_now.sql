{#- A view: what the shop has said since the last build is in it, too. -#}
{{ config(materialized='view', enabled=var('captured')) }}

with payments as (

    select
        order_id,
        coalesce(
            sum(amount_eur) filter (where payment_kind = 'charge'), 0
        ) as charged_eur,
        coalesce(
            sum(amount_eur) filter (where payment_kind = 'refund'), 0
        ) as refunded_eur
    from {{ ref('stg_captured_payments') }}
    group by order_id

),

captured as (

    select
        orders.order_id,
        orders.customer_id,
        orders.store_id,
        orders.ordered_on,
        orders.ordered_at,
        orders.channel,
        orders.order_status,
        orders.line_count,
        orders.total_eur::numeric(12, 2) as total_eur,
        coalesce(payments.charged_eur, 0)::numeric(12, 2) as charged_eur,
        coalesce(payments.refunded_eur, 0)::numeric(12, 2) as refunded_eur,
        coalesce(
            payments.charged_eur - payments.refunded_eur, 0
        )::numeric(12, 2) as net_eur
    from {{ ref('stg_captured_orders') }} as orders
    left join payments using (order_id)

),

nights as (

    select order_id from {{ ref('fct_orders') }}

)

select
    captured.*,
    nights.order_id is not null as is_in_fact
from captured
left join nights using (order_id)
