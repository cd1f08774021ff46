with source as (

    select * from {{ source(var('channel'), 'price_lists') }}

),

renamed as (

    select

        ---------- ids
        {{ typed('product_id', 'integer') }} as product_id,

        ---------- texts
        supplier,

        ---------- numerics
        {{ typed('pack_size', 'integer') }} as pack_size,
        {{ typed('purchase_price_eur', 'numeric') }} as purchase_price_eur,

        ---------- dates
        {{ typed('valid_from', 'date') }} as valid_from

    from source

)

select * from renamed
