import Foundation
import Testing

/// What a soak leaves, whatever ends it.
@Suite(.enabled(if: Host.hasKVM, Host.reason), .serialized)
struct SoakTests {
  let folder: Folder

  init() throws { folder = try Folder() }

  /// A rule that a busy host can judge as well as a quiet one.
  private static let rule = "GETCLOCK-NONMASTER-FIELDS"

  private func run(_ script: String) throws -> Child { try Child(script, in: folder) }

  @Test func aSoakEndsByItselfWithAReportACheckpointAndMetrics() throws {
    let child = try run(
      "exec \"$K\" soak --for 3s RATE-RAW MONO-CROSS-VCPU --prometheus k.prom --html k.html")
    // A busy host may leave a rule undecided.
    #expect([0, 2].contains(child.code), "\(child.complaint)")
    #expect(child.output.contains("times; the last: "))
    #expect(child.output.contains("\nnote: largest step back between vCPUs in master-clock mode: "))
    // The drift is that of one machine over the whole soak, not of many over a second.
    #expect(try #/CLOCK_MONOTONIC_RAW: .* ns in 0:00:0[2-5], /#.firstMatch(in: child.output) != nil)
    #expect(child.complaint.hasPrefix("0:00:0"), "no terminal: a line at once, then one a minute")
    #expect(child.complaint.split(separator: "\n").count == 1)
    let metrics = try String(contentsOfFile: "\(folder.path)/k.prom", encoding: .utf8)
    #expect(metrics.contains("\nkvmclock_soak_running 0\n"))
    let page = try String(contentsOfFile: "\(folder.path)/k.html", encoding: .utf8)
    #expect(page.contains("<svg"), "pictures of the last round")
    #expect(try run("ls -A | grep tmp").output == "")
  }

  @Test func aSoakThatWasKilledIsShownAndResumed() throws {
    let killed = try run(
      """
      "$K" soak \(Self.rule) --seed 3 & soak=$!
      for i in $(seq 500); do [ -e kvmclock-soak.json ] && break; sleep 0.02; done
      kill -KILL $soak; wait $soak
      """)
    #expect(killed.code == 137)
    let shown = try run("exec \"$K\" soak --show")
    shown.expect(2)
    #expect(shown.output.contains("it goes on, or was killed"))
    let resumed = try run("exec \"$K\" soak --resume --for 2s")
    #expect(resumed.code == 0, "\(resumed.complaint)")
    #expect(resumed.output.contains(", seed 3\n"))
    let again = try run("exec \"$K\" soak --resume --for 2s")
    let rounds = #/in \d+ rounds/#
    #expect(
      try rounds.firstMatch(in: again.output)?.output
        == rounds.firstMatch(in: resumed.output)?.output, "the time was up already")
  }

  @Test(arguments: [("", 0), ("--for 1h", 130)])
  func aSignalEndsASoakInGoodOrder(time: String, code: Int32) throws {
    let child = try run(
      """
      "$K" soak \(Self.rule) \(time) & soak=$!
      for i in $(seq 500); do grep -q reads, .complaint && break; sleep 0.02; done
      sleep 2; kill -INT $soak; wait $soak
      """)
    #expect(child.code == code)
    #expect(child.complaint.contains("kvmclock: ending the run"))
    #expect(child.output.contains("\nholds         \(Self.rule)"))
    #expect(child.output.contains("interrupted by SIGINT") == (code == 130))
    let shown = try run("exec \"$K\" soak --show")
    #expect(!shown.output.contains("was killed"))
  }

  @Test func aCheckpointThatIsThereIsNotOverwritten() throws {
    try folder.write("mine", to: "kvmclock-soak.json")
    try run("exec \"$K\" soak --for 1s").expect(64, "is there already; go on with it (--resume)")
    try run("exec \"$K\" soak --resume").expect(65, "not a checkpoint of kvmclock soak")
    #expect(try run("cat kvmclock-soak.json").output == "mine")
  }

  /// What starts it again and again need not know which time is the first.
  @Test func whereThereIsNoCheckpointResumeBeginsOne() throws {
    let child = try run("exec \"$K\" soak --resume --for 1s --checkpoint k.json")
    #expect([0, 2].contains(child.code), "\(child.complaint)")
    #expect(try run("ls").output == "k.json\n")
  }

  @Test func aSoakOfAnotherHostIsNotGoneOnWith() throws {
    let child = try run(
      """
      "$K" soak --for 1s \(Self.rule) >/dev/null
      sed -i 's/tscKHz" : /&9/' kvmclock-soak.json
      exec "$K" soak --resume
      """)
    #expect(child.code == 64)
    #expect(child.complaint.contains("and this host is another"))
  }

  @Test func filesThatCannotBeWrittenAreToldOfBeforeHoursHavePassed() throws {
    try run("exec \"$K\" soak --prometheus none/k.prom").expect(74, "create the folder first")
    try run("exec \"$K\" soak --checkpoint none/k.json").expect(74, "create the folder first")
  }

  @Test(.enabled(if: Host.isRoot, "only root can mount a small file system"))
  func aDiskThatFillsUpIsToldOfOnceAndEndsNothing() throws {
    let child = try run(
      """
      mkdir small
      exec unshare --mount sh -c 'mount -t tmpfs -o size=64k none small
        "$K" soak \(Self.rule) --for 3s --checkpoint small/k.json & soak=$!
        for i in $(seq 500); do [ -e small/k.json ] && break; sleep 0.02; done
        head -c 60000 /dev/zero >small/full; wait $soak; code=$?; ls -A small; exit $code'
      """)
    #expect(child.code == 74)
    #expect(child.complaint.contains("k.json: cannot write: No space left on device; free some"))
    #expect(child.output.contains("\nholds         \(Self.rule)"))
    #expect(!child.output.contains(".tmp"))
  }

  @Test(arguments: [
    ("--for 5", "8h, 90m, 1h30m"), ("--for 99999999999d", "8h, 90m, 1h30m"),
    ("--show --resume", "--show runs nothing"), ("--resume --seed 3", "from the checkpoint"),
    ("MSR-INDEX-LIST", "no soak shows more of it than a run"),
  ])
  func aWrongCommandLineIsRefused(arguments: String, complaint: String) throws {
    try run("exec \"$K\" soak \(arguments)").expect(64, complaint)
  }
}
