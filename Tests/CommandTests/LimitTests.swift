import Foundation
import Testing

/// A limit or a reader who has gone can end a write: what was found is said nevertheless, wherever it still can be.
@Suite struct LimitTests {
  let folder: Folder

  init() throws { folder = try Folder() }

  /// A script that finds a history in `h` whose rule VERSION-EVEN is broken.
  private func script(_ rest: String) throws -> Child {
    try folder.writeHistory("h", versions: [2, 3, 4])
    return try Child(rest, in: folder)
  }

  @Test func anUnwritableStdoutDoesNotHideABrokenRule() throws {
    try script("exec \"$K\" check h >/dev/full").expect(
      1, "kvmclock: cannot write to stdout: No space left on device")
    try script("sed -i '2,$s/\"version\":3/\"version\":4/' h; exec \"$K\" check h >/dev/full")
      .expect(74, "cannot write to stdout")
  }

  @Test func aStderrThatNobodyReadsDoesNotEndTheProgram() throws {
    let child = try script(
      """
      mkfifo pipe; exec 3<>pipe; exec 4>pipe; exec 3<&-
      exec "$K" check none h 2>&4
      """)
    child.expect(1)
    #expect(child.output.contains("BROKEN        VERSION-EVEN"))
  }

  @Test func aLimitOnTheSizeOfFilesCostsOneFile() throws {
    let child = try script(
      "ulimit -f 16; exec \"$K\" check h --output a.html --output b.ktap | cat")
    #expect(
      child.complaint.contains(
        "a.html: cannot write: File too large; raise the limit on the size of files"))
    #expect(try folder.read("b.ktap").hasPrefix("KTAP version 1\n"))
    #expect(child.output.contains("BROKEN        VERSION-EVEN"))
    #expect(try Child("ls -A | grep tmp", in: folder).output == "")
  }

  @Test func aPipeGetsTheReportAndStaysAPipe() throws {
    let child = try script(
      """
      mkfifo p.json; cat p.json >copy & "$K" check h --output p.json >/dev/null; code=$?
      wait; [ -p p.json ] || echo replaced; grep -c kvmclock-report copy; exit $code
      """)
    child.expect(1)
    #expect(child.output == "1\n")
  }

  @Test func aPipeThatNobodyReadsIsNamed() throws {
    try script("mkfifo p.json; exec timeout 20 \"$K\" check h --output p.json").expect(
      1, "p.json: nobody reads this pipe; start its reader first")
  }

  @Test(.enabled(if: Host.hasKVM, Host.reason))
  func twoRunsDoNotMixTheirHistories() throws {
    let child = try script(
      "\"$K\" run MSR-INDEX-LIST --history out >/dev/null; exec \"$K\" run MSR-INDEX-LIST --history out"
    )
    child.expect(74, "out: it holds the histories of an earlier run; name another folder")
  }

  /// KVM_RUN comes back from a stop as from a kick.
  @Test(.enabled(if: Host.hasKVM, Host.reason))
  func aRunThatIsStoppedAndContinuedGoesOn() throws {
    let child = try script(
      """
      "$K" run RATE-RAW SYSTIME-REWRITE-STORM VERSION-NO-TORN --seed 1 & run=$!
      for i in 1 2 3 4 5 6 7 8; do sleep 0.1; kill -STOP $run; sleep 0.05; kill -CONT $run; done
      wait $run
      """)
    #expect(!child.output.contains("ended with interrupted"))
    #expect(!child.output.contains("BROKEN"))
    #expect([0, 2].contains(child.code), "\(child.complaint)")
  }
}

/// Two soaks, and checkpoints that are none.
@Suite(.enabled(if: Host.hasKVM, Host.reason))
struct CheckpointTests {
  let folder: Folder

  init() throws { folder = try Folder() }

  @Test func twoSoaksDoNotShareACheckpoint() throws {
    let child = try Child(
      """
      "$K" soak GETCLOCK-NONMASTER-FIELDS >first 2>&1 & soak=$!
      for i in $(seq 500); do [ -e kvmclock-soak.json ] && break; sleep 0.02; done
      "$K" soak --resume --for 1s; code=$?
      kill $soak; wait $soak; exit $code
      """, in: folder)
    child.expect(64, "another soak keeps its figures in kvmclock-soak.json: name another file")
  }

  @Test func aCheckpointThatIsAPipeCanBeInterrupted() throws {
    let child = try Child(
      """
      mkfifo p; "$K" soak --resume --checkpoint p & soak=$!
      sleep 1; kill $soak; wait $soak
      """, in: folder)
    #expect(child.code == 143)
  }

  @Test func aCheckpointWithRulesOfAnotherKvmclockIsRefused() throws {
    let child = try Child(
      """
      "$K" soak GETCLOCK-NONMASTER-FIELDS --for 1s >first 2>&1
      sed -i 's/"GETCLOCK-NONMASTER-FIELDS"/"OF-TOMORROW"/' kvmclock-soak.json
      exec timeout 20 "$K" soak --resume --for 1h
      """, in: folder)
    child.expect(
      65, "kvmclock-soak.json holds a rule that this kvmclock does not have, OF-TOMORROW")
  }
}
