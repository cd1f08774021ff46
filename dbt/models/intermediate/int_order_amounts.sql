with order_lines as (

    select * from {{ ref('stg_order_lines') }}

)

select
    order_id,
    sum(quantity * unit_price_eur) as gross_eur,
    sum(discount_eur) as discount_eur
from order_lines
group by order_id
