-- Cents where euros belong, a lost line, a wrong discount: whatever the cause,
-- an order costs what its lines cost.
with lines as (

    select order_id, sum(line_total_eur) as lines_eur
    from {{ ref('stg_order_lines') }}
    group by order_id

)

select orders.order_id, orders.total_eur, lines.lines_eur
from {{ ref('stg_orders') }} as orders
left join lines using (order_id)
where orders.total_eur is distinct from lines.lines_eur
    and orders.total_eur is not null
