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

  @Test func aQuickRunLeavesOutWhatWaits() throws {
    let child = try Child("\"$K\" run --quick RATE-RAW MSR-INDEX-LIST", in: folder)
    child.expect(0)
    #expect(child.output.contains("not tested    RATE-RAW        time: --quick leaves out"))
    #expect(child.output.contains("holds         MSR-INDEX-LIST"))
  }

  @Test func aHostIsNotChangedUnlessThatIsAskedFor() throws {
    let child = try Child("\"$K\" run --history h 'SUSPEND-*' 'STABLE-LOST-C*'; ls h", in: folder)
    child.expect(0)
    #expect(child.output.contains("--change-host was not given; it is for scratch hosts"))
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
