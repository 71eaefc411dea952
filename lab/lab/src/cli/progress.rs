//! `vpc-lab up`: what is done already, and what is waited for.
//!
//! On a terminal a small table that is written anew in place; elsewhere a line for each step. It goes to stderr, so that stdout has
//! the picture alone.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use crate::supervisor::{Progress, Step};

/// With more nodes than this the table counts them.
const MOST_NODES: usize = 12;

/// What has been told so far.
pub(super) struct Board {
    terminal: bool,
    /// Lines of the table on the terminal.
    drawn: usize,
    steps: Vec<(&'static str, u64)>,
    nodes: Vec<NodeLine>,
}

struct NodeLine {
    name: String,
    booted: Option<u64>,
    end: Option<(u64, End)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    DaemonReady,
    NoDaemon,
    NotReady,
}

impl Board {
    pub(super) fn new() -> Self {
        let terminal = io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self { terminal, drawn: 0, steps: Vec::new(), nodes: Vec::new() }
    }

    /// Takes a step in, and shows it.
    pub(super) fn tell(&mut self, progress: &Progress) {
        let line = self.take(progress);
        let text = if self.terminal { self.redraw() } else { line };
        // Whoever does not read has a lab all the same.
        io::stderr().write_all(text.as_bytes()).ok();
    }

    /// Takes a step in; its line, if it has one of its own.
    fn take(&mut self, progress: &Progress) -> String {
        let at = progress.at_ms;
        let what = match &progress.step {
            Step::Fabric => self.step("fabric", at),
            Step::Cloud => self.step("EC2 and IMDS", at),
            Step::Kubernetes => self.step("Kubernetes API", at),
            Step::Nodes { names } => {
                self.nodes =
                    names.iter().map(|name| NodeLine { name: name.clone(), booted: None, end: None }).collect();
                return String::new();
            }
            Step::Booted { node } => {
                self.node(node, |line| line.booted = Some(at));
                format!("{node}: power, ENIs, services started")
            }
            Step::Ready { node, daemon: true } => self.end(node, at, End::DaemonReady),
            Step::Ready { node, daemon: false } => self.end(node, at, End::NoDaemon),
            Step::NotReady { node } => self.end(node, at, End::NotReady),
        };
        format!("{at:>7} ms  {what}\n")
    }

    fn step(&mut self, name: &'static str, at: u64) -> String {
        self.steps.push((name, at));
        name.to_owned()
    }

    fn end(&mut self, node: &str, at: u64, end: End) -> String {
        self.node(node, |line| line.end = Some((at, end)));
        format!("{node}: {}", end.words())
    }

    fn node(&mut self, name: &str, change: impl FnOnce(&mut NodeLine)) {
        if let Some(line) = self.nodes.iter_mut().find(|line| line.name == name) {
            change(line);
        }
    }

    /// The table, over the one before.
    fn redraw(&mut self) -> String {
        let table = self.table();
        let up = if self.drawn == 0 { String::new() } else { format!("\x1b[{}A", self.drawn) };
        self.drawn = table.lines().count();
        let lines = table.lines().fold(String::new(), |out, line| out + line + "\x1b[K\n");
        format!("{up}\r{lines}\x1b[J")
    }

    fn table(&self) -> String {
        let mut out = String::new();
        for (name, at) in &self.steps {
            let _ = writeln!(out, "  ✓ {name:<16} {at:>6} ms");
        }
        if self.nodes.len() > MOST_NODES {
            let booted = self.nodes.iter().filter(|line| line.booted.is_some()).count();
            let ready = self.nodes.iter().filter(|line| line.end.is_some_and(|(_, end)| end != End::NotReady)).count();
            let _ = writeln!(
                out,
                "  {} {} nodes, {booted} booted, {ready} ready",
                mark(ready == self.nodes.len()),
                self.nodes.len()
            );
            return out;
        }
        for line in &self.nodes {
            let name = &line.name;
            let _ = match (line.booted, line.end) {
                (_, Some((at, End::NotReady))) => writeln!(out, "  ✗ {name:<16} {at:>6} ms  {}", End::NotReady.words()),
                (_, Some((at, end))) => writeln!(out, "  ✓ {name:<16} {at:>6} ms  {}", end.words()),
                (Some(at), None) => writeln!(out, "  · {name:<16} {at:>6} ms  booted, waits for its daemon"),
                (None, None) => writeln!(out, "  · {name:<16}            boots"),
            };
        }
        out
    }
}

impl End {
    fn words(self) -> &'static str {
        match self {
            Self::DaemonReady => "daemon ready",
            Self::NoDaemon => "ready, without a daemon",
            Self::NotReady => "not ready",
        }
    }
}

fn mark(done: bool) -> char {
    if done { '✓' } else { '·' }
}

/// What somebody may want to do next.
pub(super) fn next_steps(lab: &str, default: bool, node: Option<&str>) -> String {
    let flag = if default { String::new() } else { format!(" --lab {lab}") };
    let mut lines = Vec::new();
    if let Some(node) = node {
        lines.push((format!("vpc-lab pod add{flag} {node} default/web"), "make a pod"));
        lines.push((format!("vpc-lab exec{flag} {node}/default/web -- ip addr"), "run something in it"));
    }
    lines.push((format!("vpc-lab status{flag} --watch"), "this picture, as it changes"));
    lines.push((format!("eval \"$(vpc-lab env{flag})\""), "then aws, boto3 and kubectl speak to the lab"));
    lines.push((format!("vpc-lab down{flag}"), "end it"));
    let width = lines.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    lines.iter().fold("\nnext\n".to_owned(), |out, (command, what)| out + &format!("  {command:<width$}  # {what}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(terminal: bool, names: &[&str]) -> Board {
        let mut board = Board { terminal, drawn: 0, steps: Vec::new(), nodes: Vec::new() };
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        for (at_ms, step) in
            [(12, Step::Fabric), (15, Step::Cloud), (20, Step::Kubernetes), (21, Step::Nodes { names })]
        {
            board.take(&Progress { at_ms, step });
        }
        board
    }

    #[test]
    fn each_node_stands_where_it_is() {
        let mut board = board(true, &["a", "b", "c"]);
        let lines = [
            board.take(&Progress { at_ms: 130, step: Step::Booted { node: "a".to_owned() } }),
            board.take(&Progress { at_ms: 131, step: Step::Booted { node: "b".to_owned() } }),
            board.take(&Progress { at_ms: 212, step: Step::Ready { node: "a".to_owned(), daemon: true } }),
            board.take(&Progress { at_ms: 20_212, step: Step::NotReady { node: "b".to_owned() } }),
        ];
        assert_eq!(lines[0], "    130 ms  a: power, ENIs, services started\n");
        assert_eq!(lines[2], "    212 ms  a: daemon ready\n");
        assert_eq!(
            board.table(),
            "  ✓ fabric               12 ms\n  ✓ EC2 and IMDS         15 ms\n  ✓ Kubernetes API       20 ms\n\
             \x20 ✓ a                   212 ms  daemon ready\n  ✗ b                 20212 ms  not ready\n\
             \x20 · c                           boots\n"
        );
        let (first, second) = (board.redraw(), board.redraw());
        assert!(first.starts_with("\r") && second.starts_with("\x1b[6A\r"), "{second:?}");
    }

    #[test]
    fn many_nodes_are_counted() {
        let names: Vec<_> = (0..30).map(|i| format!("n{i}")).collect();
        let mut board = board(true, &names.iter().map(String::as_str).collect::<Vec<_>>());
        board.take(&Progress { at_ms: 1, step: Step::Booted { node: "n3".to_owned() } });
        assert!(board.table().contains("· 30 nodes, 1 booted, 0 ready"), "{}", board.table());
    }

    #[test]
    fn the_next_steps_name_the_lab_where_it_has_a_name_of_its_own() {
        assert!(next_steps("default", true, Some("node-a")).contains("vpc-lab pod add node-a default/web "));
        let named = next_steps("two", false, None);
        assert!(named.contains("vpc-lab down --lab two") && !named.contains("pod add"), "{named}");
    }
}
