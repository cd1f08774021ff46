with source as (

    select * from {{ source(var('channel'), 'temperatures') }}

),

renamed as (

    select

        ---------- ids
        {{ typed('reading_id', 'bigint') }} as reading_id,
        van_id,

        ---------- numerics
        {{ typed('celsius', 'float8') }} as celsius,

        ---------- timestamps
        {{ typed('measured_at', 'timestamptz') }} as measured_at

    from source

)

select * from renamed
