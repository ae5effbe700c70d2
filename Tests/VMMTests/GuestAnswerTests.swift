import ABIChecker
import Glibc
import GuestImages
import PVClock
import Testing

@testable import VMM

/// What the guest says on COM1: read as it is meant, and refused if it is none.
@Suite struct GuestAnswerTests {
  private static let words = Int(VMM_WORDS)

  private static func vLine(_ vcpu: Int, _ change: (inout [UInt64]) -> Void = { _ in }) -> String {
    var words = (0..<UInt64(Self.words)).map { $0 + 0x100 }
    change(&words)
    return "v \(vcpu) aa bb " + words.map { String($0, radix: 16) }.joined(separator: " ")
  }

  private static func word(_ offset: Int32) -> Int { (Int(offset) - Int(MAILBOX_LOOP)) / 8 }

  @Test func eachWordHasItsPlace() throws {
    let answer = try GuestAnswer(lines: [
      Self.vLine(1) { $0[Self.word(VMM_FAULT)] = 14 }, "s 1 2 3 4 5 6 7", "a 2", "k 0 4 5 6",
    ])
    let seen = try #require(answer.vcpus[1])
    #expect(seen.fault == 14)
    #expect(seen.result.asked == 0xaa && seen.result.seen == 0xbb)
    #expect(seen.result.longestGap == UInt64(Self.word(VMM_GAP)) + 0x100)
    #expect(seen.result.tscBackwards == UInt64(Self.word(VMM_TSC_BACK)) + 0x100)
    #expect(seen.result.neverEven == UInt64(Self.word(VMM_NEVER_EVEN)) + 0x100)
    #expect(seen.result.reads == UInt64(LOOP_READS) / 8 + 0x100)
    #expect(seen.result.last.tsc == UInt64(LOOP_LAST) / 8 + 0x100)
    let stretch = try #require(seen.result.stretches.first)
    #expect(stretch.page.version == 1 && stretch.page.tscTimestamp == 2)
    #expect((stretch.firstTSC, stretch.lastTSC, stretch.reads) == (5, 6, 7))
    #expect(answer.absent == [2])
    let wall = try #require(answer.wall)
    #expect((wall.version, wall.seconds, wall.nanoseconds) == (4, 5, 6))
  }

  @Test(arguments: [
    "x 1", "v", "v 1 2 3", "v g", "s 1 2 3 4 5 6 7", "a", "a 1 2", "k 1 2 3", "c 1", "m 1 2",
    "v 10 " + String(repeating: "0 ", count: Int(VMM_WORDS) + 2), "! 0 d 0 100000",
    "v 0 1 1ffffffffffffffff",
  ])
  func anythingElseIsNoAnswer(line: String) {
    #expect(throws: VMMError.self) { try GuestAnswer(lines: [line]) }
  }

  /// A guest may say anything: no line ends this process.
  @Test func randomLinesAreReadOrRefused() {
    var random = SystemRandomNumberGenerator()
    let alphabet = Array("vsakcm 0123456789abcdef-+.=!\u{7f}é")
    var read = 0
    for _ in 0..<20_000 {
      var lines = [Self.vLine(.random(in: 0..<20, using: &random))]
      for _ in 0..<Int.random(in: 0..<3, using: &random) {
        lines.append(
          Bool.random(using: &random)
            ? "s "
              + (0..<Int.random(in: 5..<9)).map { _ in
                String(UInt64.random(in: 0...(.max)), radix: 16)
              }.joined(separator: " ")
            : String(
              (0..<Int.random(in: 0..<20)).map { _ in alphabet.randomElement(using: &random)! }))
      }
      if (try? GuestAnswer(lines: lines)) != nil { read += 1 }
    }
    #expect(read > 1000)
  }

  /// COM1 of a guest that boots, and says something when it is asked, in chunks of any size.
  private func console(_ answer: String, chunk: Int) -> Console {
    var left = Array("BIOS!\nkvmclock guest 1\n.\n".utf8)
    return Console(
      Console.Line(
        send: { _ in
          left += Array(answer.utf8)
          return true
        },
        receive: { _ in
          defer { left.removeFirst(min(chunk, left.count)) }
          return left.isEmpty ? nil : Array(left.prefix(chunk))
        }), isCancelled: { false })
  }

  @Test(arguments: [1, 2, 3, 5, 1000])
  func anAnswerComesInAnyPieces(chunk: Int) throws {
    let console = console("=+\n" + Self.vLine(0) + "\n.\n", chunk: chunk)
    try console.awaitHello(milliseconds: 1000)
    #expect(try console.ask("r").answer.vcpus.count == 1)
    #expect(try console.ask("r").answer.vcpus.count == 1)
  }

  @Test(arguments: ["! 1 d 0 100abc\n", "=! 1 d 0 100abc\n", "=+\nv 0! 1 d 0 100abc\n"])
  func anExceptionOfTheGuestIsTold(answer: String) {
    let console = console(answer, chunk: 1)
    #expect {
      try console.awaitHello(milliseconds: 1000)
      _ = try console.ask("r")
    } throws: { "\($0)".hasSuffix("! 1 d 0 100abc") }
  }

  /// Nobody was connected when the guest said its first line, or some of it.
  @Test(arguments: ["", "est 1\n.\n", "\n"])
  func aFirstLineThatWasLostIsAskedForAgain(came: String) throws {
    var left = Array(came.utf8)
    var asked = ""
    let console = Console(
      Console.Line(
        send: {
          asked += $0
          left += Array("kvmclock guest 1\n.\n".utf8)
          return true
        },
        receive: { milliseconds in
          if left.isEmpty { usleep(UInt32(milliseconds) * 1000) }
          defer { left = [] }
          return left
        }), isCancelled: { false })
    try console.awaitHello(milliseconds: 10_000, again: true)
    #expect(asked == "h")
  }

  /// A firmware may take a key for an order; and before a reset it is the guest of before that answers.
  @Test(arguments: [("BIOS\n", true), ("", false)])
  func nothingIsSentToWhatMayBeNoGuest(came: String, again: Bool) {
    var left = Array(came.utf8)
    var asked = ""
    let console = Console(
      Console.Line(
        send: {
          asked += $0
          return true
        },
        receive: { milliseconds in
          if left.isEmpty { usleep(UInt32(milliseconds) * 1000) }
          defer { left = [] }
          return left
        }), isCancelled: { false })
    #expect(throws: VMMError.self) { try console.awaitHello(milliseconds: 500, again: again) }
    #expect(asked == "")
  }

  @Test func aGuestThatNeverEndsIsEnded() {
    let console = Console(
      Console.Line(
        send: { _ in true },
        receive: { _ in Array("=+ noise ".utf8) + [UInt8](repeating: 65, count: 60_000) }),
      isCancelled: { false })
    #expect { _ = try console.ask("r") } throws: { "\($0)".contains("1 MiB") }
  }

  @Test(arguments: [
    ("", "nothing came there"),
    ("BIOS 1.2\r\nNo bootable device.\r\n", "ends: BIOS 1.2 / No bootable device."),
  ])
  func aGuestThatIsNotBootedIsTold(com1: String, told: String) {
    var left = Array(com1.utf8)
    let console = Console(
      Console.Line(
        send: { _ in true },
        receive: { milliseconds in
          defer { left = [] }
          if left.isEmpty { usleep(UInt32(milliseconds) * 1000) }
          return left
        }), isCancelled: { false })
    #expect {
      try console.awaitHello(milliseconds: 150)
    } throws: { "\($0)".contains(told) && "\($0)".contains("does it boot this guest") }
  }

  @Test func theFileIsAnELFWithTheNoteOfPVH() {
    let bytes = GuestFile.elf.bytes
    #expect(bytes.starts(with: [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]))
    let note: [UInt8] =
      [4, 0, 0, 0, 8, 0, 0, 0, 18, 0, 0, 0] + Array("Xen\0".utf8) + [0, 0, 0x10, 0, 0, 0, 0, 0]
    #expect(bytes.firstRange(of: note) != nil)
    #expect(bytes.suffix(GuestFile.flat.bytes.count).elementsEqual(GuestFile.flat.bytes))
  }
}
