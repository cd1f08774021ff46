with payments as (

    select * from {{ ref('stg_payments') }}

),

summed as (

    select
        order_id,
        coalesce(
            sum(amount_eur) filter (where payment_kind = 'charge'), 0
        ) as charged_eur,
        coalesce(
            sum(amount_eur) filter (where payment_kind = 'refund'), 0
        ) as refunded_eur,
        max(paid_at) as last_paid_at
    from payments
    group by order_id

)

select
    order_id,
    charged_eur,
    refunded_eur,
    charged_eur - refunded_eur as net_eur,
    last_paid_at
from summed
