//! What the code of a mapping can see of the session: not the messages of others, which stand in the client's statement or
//! in its parameters.

use support::{apply, rows, run};

use super::{Scene, mixed};

/// Mallory's trigger notes the statement and the CONTEXT around it.
fn spied(test: &str) -> Scene {
    let scene = Scene::with_item(test, "guard => 'off'");
    run(
        &mut scene.mallory(),
        "create table mallory.seen (what text); grant all on mallory.seen to public",
    );
    scene.trigger(
        "declare context text;
         begin
             get diagnostics context = pg_context;
             insert into mallory.seen values (current_query()), (context);
             begin
                 raise 'no';
             exception when others then
                 get stacked diagnostics context = pg_exception_context;
                 insert into mallory.seen values (context);
             end;
             set log_parameter_max_length_on_error = -1;
             return new;
         end",
    );
    scene
}

/// What was seen of `good` and its row, which are not Mallory's.
fn seen(scene: &Scene) -> Vec<String> {
    let mut admin = scene.admin();
    assert!(rows(&mut admin, "select what from mallory.seen").len() >= 3);
    rows(
        &mut admin,
        "select what from mallory.seen where what ~ 'good|wrapper'",
    )
}

#[test]
fn a_batch_as_a_literal() {
    let scene = spied("literal");
    for n in 1..3 {
        run(
            &mut scene.forwarder(),
            &format!("select sequin_apply('{}'::text)", mixed(n)),
        );
    }
    assert_eq!(seen(&scene), Vec::<String>::new());
}

#[test]
fn a_bound_batch() {
    let scene = spied("bound");
    let mut forwarder = scene.forwarder();
    run(&mut forwarder, "set log_parameter_max_length_on_error = -1");
    for n in 1..3 {
        apply(&mut forwarder, &mixed(n));
    }
    assert_eq!(seen(&scene), Vec::<String>::new());
}

/// A function of the operator's that composes the statement.
#[test]
fn a_function_around_the_call() {
    let scene = spied("around");
    run(
        &mut scene.admin(),
        "create function wrapper(batch text) returns void language plpgsql security definer as $$
         begin
             execute format('select sequin_apply(%L::text)', batch);
         end $$",
    );
    let mut forwarder = scene.forwarder();
    for n in 1..3 {
        forwarder
            .execute("select wrapper($1)", &[&mixed(n)])
            .expect("applied");
    }
    assert_eq!(seen(&scene), Vec::<String>::new());
}
