with source as (

    select * from {{ source(var('channel'), 'products') }}

),

renamed as (

    select

        ---------- ids
        {{ typed('product_id', 'integer') }} as product_id,

        ---------- texts
        name as product_name,
        category,
        storage,
        unit as sold_by,

        ---------- numerics
        {{ typed('price_eur', 'numeric') }} as price_eur,
        {{ typed('vat_percent', 'numeric') }} as vat_percent,
        {{ typed('weight_g', 'integer') }} as weight_g

    from source

)

select * from renamed
