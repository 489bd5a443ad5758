-- sequin.row_key, however it is called: as a function, an operator, a cast, with parameters.
create schema row_key;
set search_path = row_key, test, public;
\set VERBOSITY default
select sequin.row_key(1), sequin.row_key(1::bigint) = sequin.row_key(1) as same_number, sequin.row_key(1, 'a'::text);
select sequin.row_key(null::int) is null as is_null, sequin.row_key(1, null::text) is null as part_is_null;
select sequin.row_key();

-- in a plan that is kept, and one that is made again for each value
prepare keyed(int, text) as select sequin.row_key($1, $2);
set plan_cache_mode = force_generic_plan;
execute keyed(1, 'a');
set plan_cache_mode = force_custom_plan;
execute keyed(1, 'a');
reset plan_cache_mode;
select sequin.row_key(n, s) from (values (1, 'a'::text)) v(n, s);

-- VARIADIC
select sequin.row_key(variadic array[1, 2]);
select sequin.row_key(variadic null::int[]);
select sequin.row_key(variadic null);
select sequin.row_key(array[1, 2]) is not null as array_as_a_key;

-- through an operator: the collation is that of its argument
create operator ### (rightarg = "any", function = sequin.row_key);
select ### 1 = sequin.row_key(1) as one, ### 'a'::text = sequin.row_key('a'::text) as text,
       (### ('a'::text collate "C")) = sequin.row_key('a'::text collate "C") as collated,
       (### null::int) is null as is_null;

-- by a foreign key, as the function of a cast: nothing says of which type the values are
create type mood as enum ('sad', 'ok');
create cast (mood as bytea) with function sequin.row_key("any") as implicit;
create table parent (key bytea primary key);
create table child (id int, mood mood references parent (key));
insert into parent select sequin.row_key(m) from unnest(enum_range(null::mood)) m;
insert into child values (1, 'ok');
update child set mood = 'sad';
select 'ok'::mood::bytea = sequin.row_key('ok'::mood) as cast;

-- of an unknown type
select sequin.row_key('a') = sequin.row_key('a'::text) as unknown;
drop schema row_key cascade;
