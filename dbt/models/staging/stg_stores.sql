with source as (

    select * from {{ source(var('channel'), 'stores') }}

),

renamed as (

    select

        ---------- ids
        {{ typed('store_id', 'integer') }} as store_id,

        ---------- texts
        name as store_name,
        city,
        region as region_code,

        ---------- numerics
        {{ typed('latitude', 'float8') }} as latitude,
        {{ typed('longitude', 'float8') }} as longitude,

        ---------- dates
        {{ typed('opened_on', 'date') }} as opened_on

    from source

)

select * from renamed
