import Foundation
import Testing

/// The programs under Examples/, built together with the tests.
@Suite struct ExamplesTests {
  let folder: Folder

  init() throws { folder = try Folder() }

  private func run(_ example: String) throws -> Child {
    try Child("exec \"${K%/*}\"/\(example)", in: folder)
  }

  /// The manual's program lacked two calls, without which some processors run no guest in real mode.
  @Test(arguments: [
    ("Sources/KVM/KVM.docc/AVMInFortyLines.md", "a-vm-in-forty-lines"),
    ("Sources/PVClock/PVClock.docc/ReadingAClockPage.md", "reading-a-clock-page"),
  ])
  func theManualShowsTheProgram(article: String, example: String) throws {
    let root = URL(filePath: #filePath).appending(path: "../../..").standardized
    func lines(_ path: String) throws -> [String] {
      try String(contentsOf: root.appending(path: path), encoding: .utf8)
        .components(separatedBy: "\n").map { $0.trimmingCharacters(in: .whitespaces) }
    }
    let text = try lines(article)
    let program = try lines("Examples/\(example)/main.swift")
    let shown = text.joined(separator: "\n").matches(of: /```swift\n((?s).*?)\n```/)
      .flatMap { $0.1.components(separatedBy: "\n") }.filter { !$0.isEmpty }
    #expect(!shown.isEmpty)
    var rest = program[...]
    for line in shown {
      let place = rest.firstIndex(of: line)
      #expect(place != nil, "\(article): \(line)")
      if let place { rest = rest[(place + 1)...] }
    }
    guard example == "a-vm-in-forty-lines" else { return }
    let calls = program.filter { $0.contains("try ") && !$0.hasPrefix("do ") }
    for call in calls { #expect(shown.contains(call), "\(article) lacks \(call)") }
  }

  @Test(.enabled(if: Host.hasKVM, Host.reason))
  func aVMInFortyLinesSaysHello() throws {
    let child = try run("a-vm-in-forty-lines")
    child.expect(0)
    #expect(child.output == "A guest says hello.\n")
  }

  @Test func readingAClockPageGivesTheTimeThatAGuestRead() throws {
    let child = try run("reading-a-clock-page")
    child.expect(0)
    #expect(
      child.output == """
        version            2
        tsc_timestamp      10151359083332
        system_time        2013621 ns
        tsc_to_system_mul  3308720448
        tsc_shift          -1
        TSC                2596150 kHz
        stable             yes
        time at 10151471272630  45227340 ns

        """)
  }

  @Test(arguments: [
    ("02 5", "a record has 32 bytes"), ("zz 5", "a record has 32 bytes"),
    ("02", "give 64 hexadecimal digits and a TSC"),
    (String(repeating: "03", count: 32) + " 7", "the host is in the middle of an update"),
  ])
  func readingWhatIsNoClockPageSaysSo(arguments: String, complaint: String) throws {
    let child = try run("reading-a-clock-page \(arguments)")
    #expect(child.code == 64)
    #expect(child.output.contains(complaint))
  }

  @Test func readingAnotherPage() throws {
    // All zero but for the version, 4, and system_time, 0x0102.
    let page =
      "04" + String(repeating: "00", count: 15) + "0201" + String(repeating: "00", count: 14)
    let child = try run("reading-a-clock-page \(page) 1000")
    #expect(child.output.contains("\ntime at 1000  258 ns\n"))
    #expect(child.output.contains("TSC                of no frequency"))
  }
}
