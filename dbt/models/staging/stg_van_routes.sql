with source as (

    select * from {{ source(var('channel'), 'van_routes') }}

),

renamed as (

    select

        ---------- ids
        {{ typed('route_id', 'bigint') }} as route_id,
        van_id,
        {{ typed('store_id', 'integer') }} as store_id,

        ---------- texts
        half as half_day,

        ---------- numerics
        {{ typed('distance_km', 'float8') }} as distance_km,

        ---------- timestamps
        {{ typed('departed_at', 'timestamptz') }} as departed_at,
        {{ typed('returned_at', 'timestamptz') }} as returned_at,

        ---------- days
        {{ typed('day', 'date') }} as driven_on

    from source

)

select * from renamed
