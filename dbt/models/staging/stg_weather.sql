with source as (

    select * from {{ source(var('channel'), 'weather') }}

),

renamed as (

    select

        ---------- ids
        {{ typed('store_id', 'integer') }} as store_id,

        ---------- numerics
        {{ typed('celsius', 'float8') }} as celsius,
        {{ typed('rain_mm', 'float8') }} as rain_mm,
        {{ typed('wind_kmh', 'float8') }} as wind_kmh,

        ---------- timestamps
        {{ typed('observed_at', 'timestamptz') }} as observed_at

    from source

)

select * from renamed
