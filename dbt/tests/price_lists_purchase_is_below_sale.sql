-- Nothing is bought for more than it is sold for: a price in cents is.
select
    price_lists.product_id,
    price_lists.valid_from,
    price_lists.purchase_price_eur,
    products.price_eur
from {{ ref('stg_price_lists') }} as price_lists
inner join {{ ref('stg_products') }} as products using (product_id)
where price_lists.purchase_price_eur > products.price_eur
