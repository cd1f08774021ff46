{#- [START config] #}
{{
    config(
        materialized='incremental',
        incremental_strategy='merge',
        unique_key='order_id',
        on_schema_change='fail',
        indexes=[
            {'columns': ['ordered_on']},
            {'columns': ['customer_key']},
        ],
    )
}}
{#- [END config] #}

with orders as (

    select * from {{ ref('stg_orders') }}

),

amounts as (

    select * from {{ ref('int_order_amounts') }}

),

payments as (

    select * from {{ ref('int_order_payments') }}

),

customers as (

    select * from {{ ref('dim_customer') }}

),

joined as (

    select
        orders.order_id,
        customers.customer_key,
        orders.customer_id,
        orders.store_id,
        orders.ordered_on,
        orders.ordered_at,
        orders.channel,
        orders.order_status,
        orders.line_count,
        amounts.gross_eur::numeric(12, 2) as gross_eur,
        amounts.discount_eur::numeric(12, 2) as discount_eur,
        orders.total_eur::numeric(12, 2) as total_eur,
        coalesce(payments.charged_eur, 0)::numeric(12, 2) as charged_eur,
        coalesce(payments.refunded_eur, 0)::numeric(12, 2) as refunded_eur,
        coalesce(payments.net_eur, 0)::numeric(12, 2) as net_eur,
        greatest(orders.ordered_at, payments.last_paid_at) as last_event_at
    from orders
    left join amounts using (order_id)
    left join payments using (order_id)
    left join customers
        on customers.customer_id = orders.customer_id
        and orders.ordered_at >= customers.valid_from
        and (
            orders.ordered_at < customers.valid_to
            or customers.valid_to is null
        )

)

{#- [START incremental] #}
select * from joined
{% if is_incremental() %}
where {{ since_last_run('last_event_at') }}
{% endif %}
{#- [END incremental] #}
