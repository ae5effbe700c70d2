import Foundation
import Testing

/// What `run` does when something comes between it and its end.
@Suite(.enabled(if: Host.hasKVM, Host.reason), .serialized)
struct RunTests {
  let folder: Folder

  init() throws { folder = try Folder() }

  /// Runs two rules of which one takes a second, and sends signals as soon as the other one is recorded.
  private func interrupted(by signals: String, writingTo output: String = "&1") throws -> Child {
    try Child(
      """
      mkfifo full; exec 3<>full; head -c 65536 /dev/zero >&3
      "$K" run RATE-RAW MSR-INDEX-LIST --history h >\(output) & run=$!
      for i in $(seq 500); do [ -e h/discovery.1.kvmclock.jsonl ] && break; sleep 0.02; done
      \(signals)
      wait $run
      """, in: folder)
  }

  /// All on one CPU, so that one is left for the rest of the host if a thread never lets go of it.
  @Test(
    .enabled(if: Host.canBeRealtime, "needs chrt, taskset, CPU 1 and the right to be SCHED_FIFO"),
    arguments: ["--fifo 1", "--rr 1", "--fifo 10"])
  func aRunUnderARealtimePolicyEnds(policy: String) throws {
    let child = try Child(
      """
      exec timeout -s KILL 45 taskset -c 1 chrt \(policy) \
        "$K" run SYSTIME-REWRITE-STORM MONO-CROSS-VCPU VERSION-NO-TORN
      """, in: folder)
    #expect(child.code == 0 || child.code == 2)
  }

  @Test func aTopicAScenarioAndAnExclusionChooseRules() throws {
    let topic = try Child(
      "exec \"$K\" run --topic 'version prot' --exclude VERSION-STEP", in: folder)
    topic.expect(0)
    #expect(topic.output.contains("\n1 rule: "))
    let scenario = try Child("exec \"$K\" run --scenario discovery --timings", in: folder)
    #expect(scenario.output.split(separator: "\n").count { $0.hasPrefix("time ") } == 1)
    try Child("exec \"$K\" run --scenario discover", in: folder)
      .expect(64, "there is no scenario 'discover'. `kvmclock run --dry-run` shows all.")
    try Child("exec \"$K\" run --topic moon", in: folder)
      .expect(64, "no topic's title contains 'moon'. The topics are: What KVM says of itself; ")
    try Child("exec \"$K\" run VERSION-EVEN --exclude 'VERSION*'", in: folder)
      .expect(64, "these options leave no rule.")
  }

  @Test func aDryRunRunsNothing() throws {
    let child = try Child(
      "exec \"$K\" run --dry-run --device none PERIODIC-SYNC VERSION-EVEN", in: folder)
    child.expect(0)
    #expect(child.output.contains("\nperiodic-sync  time: needs --long"))
    #expect(child.output.contains("VERSION-EVEN\n"))
  }

  @Test func theFirstBrokenScenarioEndsAFastRun() throws {
    let child = try Child(
      "exec \"$K\" run --host interference --fail-fast --format jsonl", in: folder)
    child.expect(1)
    let last = child.output.split(separator: "\n").last ?? ""
    #expect(last.contains("\"interruption\":\"--fail-fast\""))
    #expect(!last.contains("\"broken\":0"))
  }

  @Test func aRunIsRepeatedUntilARuleIsBroken() throws {
    let sound = try Child("exec \"$K\" run MSR-INDEX-LIST --repeat 3 --seed 7", in: folder)
    sound.expect(0, "round 3, seed 9: SOUND: ")
    let broken = try Child(
      "exec \"$K\" run SYSTIME-REWRITE-KEEPS-TIME --until-broken --fault RESTART-ON-VCPU0 --seed 7 --history h",
      in: folder)
    broken.expect(1, "round 1, seed 7: NOT SOUND: ")
    #expect(broken.output.contains("h/round-1/rewrite.1.kvmclock.jsonl"))
  }

  @Test func whatWasNotWellIsRunAgain() throws {
    try Child(
      "exec \"$K\" run 'SYSTIME-REWRITE-*' MSR-INDEX-LIST --host interference --seed 7 --output a.json -q",
      in: folder
    ).expect(1)
    let again = try Child("exec \"$K\" run --rerun a.json", in: folder)
    #expect(again.output.contains(", seed 7\n") && !again.output.contains("MSR-INDEX-LIST"))
    try Child(
      "\"$K\" run MSR-INDEX-LIST --output b.json; exec \"$K\" run --rerun b.json", in: folder
    )
    .expect(64, "b.json: no rule is broken or inconclusive there")
  }

  @Test func aUsersOwnListExcuses() throws {
    let run = "exec \"$K\" run SYSTIME-REWRITE-KEEPS-TIME --host interference --known own.json"
    try folder.write(
      #"[{"rule":"SYSTIME-REWRITE-KEEPS-TIME","cause":"ours","source":"bug 7","since":"3.0"}]"#,
      to: "own.json")
    let child = try Child(run, in: folder)
    child.expect(0)
    #expect(child.output.contains("kernels since 3.0: ours (bug 7)"))
    try folder.write(#"[{"rule":"X","cause":"","source":""}]"#, to: "own.json")
    try Child(run, in: folder).expect(65, "own.json: there is no rule 'X'")
    // A misspelt "until" would excuse the rule for ever, and a bound cannot be checked.
    for key in ["untill", "bound"] {
      try folder.write(
        "[{\"rule\":\"RATE-RAW\",\"cause\":\"\",\"source\":\"\",\"\(key)\":\"3.0\"}]",
        to: "own.json")
      try Child(run, in: folder).expect(
        65, "an entry has \"\(key)\"; it may have rule, since, until, cause, source")
    }
    try folder.write(#"{"rule":"X"}"#, to: "own.json")
    try Child(run, in: folder).expect(65, "own.json: not a list of known deviations: ")
  }

  /// Files of another seed stayed, and were judged together with the new ones.
  @Test func aFolderIsForOneRun() throws {
    let run = "\"$K\" run MSR-INDEX-LIST --history h"
    try Child("exec \(run)", in: folder).expect(0)
    try Child("exec \(run)", in: folder)
      .expect(74, "h: it holds the histories of an earlier run; name another folder")
    let child = try Child("exec \"$K\" check h --format jsonl", in: folder)
    child.expect(0)
    #expect(
      child.output.contains("\"machine\":{") && child.output.contains("\"rule\":\"MSR-INDEX-LIST\"")
    )
  }

  @Test func aSuiteOfKselftestIsSkippedWithoutKVM() throws {
    let child = try Child("exec \"$K\" run --kselftest --device none", in: folder)
    child.expect(4, "open none failed: ")
    #expect(
      child.output.hasPrefix("KTAP version 1\n1..0 # SKIP KVM cannot be used: open none failed: "))
    let topic = try Child("exec \"$K\" run --kselftest --topic 'version prot'", in: folder)
    #expect(
      topic.code == 0 && topic.output.contains("\nok 1 The version protocol\n# Totals: pass:2 "))
  }

  @Test func annotationsAreForGitHub() throws {
    let child = try Child(
      """
      GITHUB_STEP_SUMMARY=summary exec "$K" run SYSTIME-REWRITE-KEEPS-TIME --host interference --github
      """, in: folder)
    child.expect(1)
    #expect(child.output.contains("\n::error title=kvmclock SYSTIME-REWRITE-KEEPS-TIME::expected "))
    #expect(try folder.read("summary").hasPrefix("# kvmclock: NOT SOUND\n"))
  }

  @Test func aHistoryIsShownAsATable() throws {
    try Child(
      "exec \"$K\" run SYSTIME-REWRITE-KEEPS-TIME --host interference --history h -q", in: folder
    ).expect(1)
    let child = try Child(
      "exec \"$K\" show h/rewrite.1.kvmclock.jsonl --rule SYSTIME-REWRITE-KEEPS-TIME", in: folder)
    child.expect(0)
    #expect(child.output.contains("when vCPU 0 wrote the system-time MSR\n"))
    #expect(child.output.contains("\n!  ") || child.output.contains("\n!    "))
    let few = try Child("exec \"$K\" show h/rewrite.1.kvmclock.jsonl --events 2-4", in: folder)
    #expect(few.output.split(separator: "\n").count == 5)
    try Child("exec \"$K\" show h/rewrite.1.kvmclock.jsonl --events 4-2", in: folder)
      .expect(64, "The value '4-2' is invalid")
  }

  @Test func aHostIsNotChangedUnlessThatIsAskedFor() throws {
    let child = try Child("\"$K\" run --history h 'SUSPEND-*' 'STABLE-LOST-C*'; ls h", in: folder)
    child.expect(0)
    #expect(child.output.contains("needs --change-host (scratch hosts only)"))
    #expect(child.output.contains("NOTHING WAS TESTED"))
    #expect(!child.output.contains("jsonl"))
  }

  @Test(arguments: [("INT", 130), ("TERM", 143)])
  func aSignalEndsTheRunInGoodOrder(signal: String, code: Int32) throws {
    let child = try interrupted(by: "kill -\(signal) $run")
    child.expect(code, "kvmclock: ending the run; a second signal ends it at once\n")
    #expect(child.output.contains("\ninterrupted by SIG\(signal): "))
    #expect(child.output.contains("\nholds         MSR-INDEX-LIST"))
    try Child("exec \"$K\" check h/discovery.1.kvmclock.jsonl", in: folder).expect(0)
  }

  @Test func aSecondSignalEndsTheProgramAtOnce() throws {
    // The report goes into a pipe that is full, so the first signal alone would never end it.
    let child = try interrupted(
      by: """
          kill -INT $run
          for i in $(seq 500); do grep -q ending .complaint && break; sleep 0.02; done
          kill -TERM $run
        """,
      writingTo: "&3")
    child.expect(143, "a second signal ends it at once")
  }

  @Test(.enabled(if: Host.isRoot, "only root can mount a small file system"))
  func aDiskThatFillsUpDuringTheRunCostsHistoriesAndNoVerdicts() throws {
    let child = try Child(
      """
      mkdir small
      exec unshare --mount sh -c 'mount -t tmpfs -o size=32k none small &&
        "$K" run --history small; code=$?; ls -A small; exit $code'
      """, in: folder)
    child.expect(74, ".1.kvmclock.jsonl: cannot write: No space left on device; free some space")
    #expect(child.output.contains(" could not be saved\n"))
    #expect(child.output.contains(", 0 broken, "))
    #expect(!child.output.contains(".tmp"), "no part of a history is left behind")
  }
}
