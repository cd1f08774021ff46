with source as (

    select * from {{ source(var('channel'), 'deliveries') }}

),

renamed as (

    select

        ---------- ids
        {{ typed('delivery_id', 'bigint') }} as delivery_id,
        {{ typed('order_id', 'bigint') }} as order_id,
        {{ typed('route_id', 'bigint') }} as route_id,

        ---------- texts
        status as delivery_status,

        ---------- numerics
        {{ typed('celsius_at_door', 'float8') }} as celsius_at_door,

        ---------- timestamps
        {{ typed('promised_from', 'timestamptz') }} as promised_from,
        {{ typed('promised_to', 'timestamptz') }} as promised_to,
        {{ typed('delivered_at', 'timestamptz') }} as delivered_at

    from source

)

select * from renamed
