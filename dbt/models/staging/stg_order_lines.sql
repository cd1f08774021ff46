with source as (

    select * from {{ source(var('channel'), 'order_lines') }}

),

renamed as (

    select

        ---------- ids
        {{ typed('order_id', 'bigint') }} as order_id,
        {{ typed('line_no', 'integer') }} as line_no,
        {{ typed('product_id', 'integer') }} as product_id,

        ---------- numerics
        {{ typed('quantity', 'integer') }} as quantity,
        {{ typed('unit_price_eur', 'numeric') }} as unit_price_eur,
        {{ typed('discount_eur', 'numeric') }} as discount_eur,
        {{ typed('line_total_eur', 'numeric') }} as line_total_eur

    from source

)

select * from renamed
