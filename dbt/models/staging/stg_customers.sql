with source as (

    select * from {{ source(var('channel'), 'customers') }}

),

renamed as (

    select

        ---------- ids
        {{ typed('customer_id', 'bigint') }} as customer_id,

        ---------- texts
        first_name,
        last_name,
        email,
        phone,
        street,
        postcode,
        city,
        loyalty,

        ---------- booleans
        {{ typed('newsletter', 'boolean') }} as is_subscriber,

        ---------- dates
        {{ typed('birth_date', 'date') }} as birth_date,
        {{ typed('registered_on', 'date') }} as registered_on

    from source

)

select * from renamed
