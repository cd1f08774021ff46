with products as (

    select * from {{ ref('stg_products') }}

),

latest_prices as (

    select distinct on (product_id)
        product_id,
        supplier,
        purchase_price_eur
    from {{ ref('stg_price_lists') }}
    order by product_id, valid_from desc

)

select
    products.product_id,
    products.product_name,
    products.category,
    products.storage,
    products.sold_by,
    products.weight_g,
    products.price_eur::numeric(10, 2) as price_eur,
    products.vat_percent::numeric(4, 1) as vat_percent,
    latest_prices.supplier,
    latest_prices.purchase_price_eur::numeric(10, 2) as purchase_price_eur,
    (
        products.price_eur / (1 + products.vat_percent / 100)
        - latest_prices.purchase_price_eur
    )::numeric(10, 2) as margin_eur
from products
left join latest_prices using (product_id)
