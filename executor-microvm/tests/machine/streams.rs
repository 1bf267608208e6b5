//! Standard streams.

use std::sync::Arc;

use wasmatrix_model::ExitCause;

use crate::stage::{Recorder, Scene, executor, program};

#[tokio::test]
async fn a_program_says_hello() {
    let Some(executor) = executor() else { return };
    let scene = Scene::new(&executor);
    let text = program(
        r#"(func (export "_start")
            (call $print (i32.const 1) (i32.const 1024) (i32.const 16))
            (call $print (i32.const 2) (i32.const 1024) (i32.const 5)))"#,
    );
    assert_eq!(scene.run(&text).await, ExitCause::Exited { code: 0 });
    assert_eq!((scene.console.out().as_str(), scene.console.err().as_str()), ("hello, micro-VM\n", "hello"));
}

#[tokio::test]
async fn what_comes_in_goes_out() {
    let Some(executor) = executor() else { return };
    let scene = Scene { console: Recorder::with_input(&["one ", "two"]), ..Scene::new(&executor) };
    let text = program(
        r#"(func (export "_start")
            (loop $more
                (i32.store (i32.const 0) (i32.const 2048))
                (i32.store (i32.const 4) (i32.const 100))
                (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
                (if (i32.load (i32.const 8)) (then
                    (call $print (i32.const 1) (i32.const 2048) (i32.load (i32.const 8)))
                    (br $more)))))"#,
    );
    assert_eq!(scene.run(&text).await, ExitCause::Exited { code: 0 });
    assert_eq!(scene.console.out(), "one two");
}

#[tokio::test]
async fn a_closed_output_is_an_error_to_the_program_and_not_its_end() {
    let Some(executor) = executor() else { return };
    let scene = Scene { console: Recorder::closed(), ..Scene::new(&executor) };
    let text = program(
        r#"(func (export "_start")
            (call $print (i32.const 1) (i32.const 1024) (i32.const 16))
            (call $exit (i32.const 7)))"#,
    );
    assert_eq!(scene.run(&text).await, ExitCause::Exited { code: 7 });
    assert_eq!(Arc::clone(&scene.console).out(), "");
}
