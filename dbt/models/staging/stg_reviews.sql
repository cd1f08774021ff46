with source as (

    select * from {{ source(var('channel'), 'reviews') }}

),

renamed as (

    select

        ---------- ids
        {{ typed('review_id', 'bigint') }} as review_id,
        {{ typed('order_id', 'bigint') }} as order_id,
        {{ typed('customer_id', 'bigint') }} as customer_id,
        {{ typed('product_id', 'integer') }} as product_id,

        ---------- numerics
        {{ typed('rating', 'integer') }} as rating,

        ---------- texts
        body,

        ---------- timestamps
        {{ typed('written_at', 'timestamptz') }} as written_at

    from source

)

select * from renamed
