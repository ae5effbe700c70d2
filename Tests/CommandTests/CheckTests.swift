import Foundation
import Testing

@Suite struct CheckTests {
  let folder: Folder

  init() throws { folder = try Folder() }

  private func check(_ arguments: String) throws -> Child {
    try Child("exec \"$K\" check \(arguments)", in: folder)
  }

  /// A history of the scenario `version` in which a vCPU's record goes through these versions.
  private func history(
    _ name: String, versions: [UInt32], scenario: String = "version", kernel: String = "6.12.0"
  ) throws {
    try folder.writeHistory(name, versions: versions, scenario: scenario, kernel: kernel)
  }

  @Test func aBrokenRuleIsShownWithItsProofAndGivesOne() throws {
    try history("odd.jsonl", versions: [2, 3, 4])
    let child = try check("odd.jsonl")
    child.expect(1)
    let lines = child.output.split(separator: "\n").map(String.init)
    #expect(
      lines[0]
        == "kvmclock 0.1.0: Linux 6.12.0, kvm_amd, TSC 2000000 kHz, clocksource tsc, seed 9")
    #expect(lines.contains { $0.hasPrefix("BROKEN        VERSION-EVEN") })
    #expect(child.output.contains("event 4 of scenario version, odd.jsonl\n"))
    #expect(
      child.output.contains("repeat:   kvmclock run VERSION-EVEN --scenario version --seed 9\n"))
  }

  /// Histories of format 2 had resets and errors as other texts, and errors as numbers.
  @Test(arguments: [
    ("replug", "REPLUG-VCPU0-KEEPS-TIME"), ("migration", "MIG-STOPPED"),
    ("tsc-frequency", "TSCKHZ-ROUNDTRIP"),
  ])
  func aHistoryOfFormat2IsStillRead(scenario: String, rule: String) throws {
    let file = URL(filePath: #filePath).deletingLastPathComponent().appending(
      path: "../Fixtures/format-2-\(scenario).kvmclock.jsonl"
    ).standardized.path()
    let child = try check("--verbose \(file)")
    child.expect(0)
    #expect(child.output.split(separator: "\n").contains { $0.hasPrefix("holds         \(rule)") })
  }

  @Test func theSameVerdictAsKTAP() throws {
    try history("odd.jsonl", versions: [2, 3, 4])
    let child = try check("odd.jsonl --format ktap")
    child.expect(1)
    #expect(child.output.hasPrefix("KTAP version 1\n1.."))
    #expect(try #/\nnot ok \d+ VERSION-EVEN\n/#.firstMatch(in: child.output) != nil)
  }

  @Test func aHistoryThatIsCutOffIsJudgedAndSaysSo() throws {
    try history("odd.jsonl", versions: [2, 3, 4])
    try history("even.jsonl", versions: [2, 2, 2, 2, 2, 4])
    let script = "head -c -9 odd.jsonl >a; head -c -9 even.jsonl >b; exec \"$K\" check"
    let broken = try Child(script + " a", in: folder)
    broken.expect(1)
    #expect(broken.output.contains("note: a is cut off in line 7\n"))
    let open = try Child(script + " b", in: folder)
    open.expect(2)
    #expect(open.output.contains("the scenario ended early: b is cut off in line 10\n"))
  }

  @Test func aFileThatIsNoHistoryIsReportedAndTheOthersAreJudged() throws {
    try history("odd.jsonl", versions: [2, 3, 4])
    try history("even.jsonl", versions: [2, 2, 2, 2, 2, 4])
    try folder.write("what?\n", to: "bad.jsonl")
    try check("bad.jsonl even.jsonl").expect(65, "kvmclock: bad.jsonl:1: not the header")
    try check("none bad.jsonl").expect(66, "kvmclock: none: cannot open it: No such file")
    let both = try check("bad.jsonl odd.jsonl")
    both.expect(1, "bad.jsonl:1")
    #expect(both.output.contains("BROKEN        VERSION-EVEN"))
  }

  @Test(arguments: [
    ("printf ''", "f: the file is empty"),
    ("printf '\\377\\376'", "f:1: not the header of a history of kvmclock: not UTF-8"),
    ("printf '%01048577d' 0", "f:1: the line is longer than 1048576 bytes"),
    ("printf '%0999999d' 0 | tr 0 '['", "f:1: not the header"),
    ("echo '{\"format\":\"kvmclock-history\",\"version\":99}'", "f:1: written by a newer kvmclock"),
    ("echo '{\"format\":\"other\",\"version\":1}'", "f:1: the format is \"other\""),
    ("head -n 1 h; echo '{}'", "f:2: \"tsc\" is missing"),
    ("head -n 1 h; sed -n 3p h", "f:2: the event's number is 2 where 1 is due"),
    ("head -n 1 h", "f:1: this cannot have happened: nothing was done"),
    ("sed 's/2000000/0/' h", "f:1: this cannot have happened: the host's TSC has 0 kHz"),
    ("sed 's/{\"vcpu\":0}/{\"vcpu\":1}/' h", "f:4: this cannot have happened: vcpu0 was not made"),
    ("cat h; tail -n 1 h", "f:7: a line follows the end of the history"),
    ("sed '$s/4/3/' h", "f:6: the history ended after 3 events, and 4 are there"),
  ])
  func badDataIsNamedByFileAndLine(maker: String, complaint: String) throws {
    try history("h", versions: [2, 4])
    let child = try Child("{ \(maker); } >f; exec \"$K\" check f", in: folder)
    child.expect(65, "kvmclock: \(complaint)")
    #expect(child.output == "")
  }

  @Test func aDirectoryIsUnreadable() throws {
    try check(".").expect(66, "kvmclock: .: cannot read it: Is a directory; name a file in it\n")
  }

  @Test(.enabled(if: Host.isRoot, "only root can become a user without permission"))
  func aFileWithoutPermissionIsUnreadable() throws {
    try history("h", versions: [2, 4])
    let script = """
      chmod 755 . && cp "$K" ./command && chmod 755 command && chmod 600 h
      exec setpriv --reuid=65534 --regid=65534 --clear-groups ./command check h
      """
    try Child(script, in: folder).expect(66, "kvmclock: h: cannot open it: Permission denied")
  }

  @Test func historiesOfSeveralHostsAreJudgedEachOnItsOwn() throws {
    try history("old.jsonl", versions: [2, 3], kernel: "5.10.0")
    try history("new.jsonl", versions: [2, 4], kernel: "6.12.0")
    let child = try check("old.jsonl new.jsonl")
    child.expect(1)
    #expect(child.output.components(separatedBy: "kvmclock 0.1.0: Linux ").count == 3)
    #expect(child.output.components(separatedBy: "BROKEN ").count == 2)
    try check("--format ktap old.jsonl new.jsonl").expect(64, "histories of 2 hosts")
  }

  @Test func anUnknownScenarioIsNoted() throws {
    try history("h", versions: [2, 3], scenario: "tomorrow")
    let child = try check("h")
    child.expect(1)
    #expect(child.output.contains("note: this kvmclock has no scenario tomorrow: "))
  }

  @Test func aHistoryThatShowsNothingIsNoPass() throws {
    try history("h", versions: [])
    let child = try check("h")
    child.expect(2)
    #expect(child.output.contains("NOTHING WAS TESTED"))
  }

  @Test func colourIsForTerminalsOrOnRequest() throws {
    try history("h", versions: [2, 3])
    #expect(try !check("h").output.contains("\u{1b}"))
    #expect(try check("h --color always").output.contains("\u{1b}[1;31mBROKEN"))
  }
}
