import Foundation
import Testing

@Suite struct UsageTests {
  let folder: Folder

  init() throws { folder = try Folder() }

  private func kvmclock(_ arguments: String) throws -> Child {
    try Child("exec \"$K\" \(arguments)", in: folder)
  }

  @Test(arguments: ["--help", "-h", "help", "run --help", "help check", ""])
  func helpIsNoError(arguments: String) throws {
    let child = try kvmclock(arguments)
    child.expect(0)
    #expect(child.output.contains("USAGE: kvmclock"))
  }

  @Test func helpNamesEveryExitCodeAndSubcommand() throws {
    let help = try kvmclock("--help").output
    for word in [
      "64", "65", "66", "69", "74", "130", "run", "list", "explain", "check", "compare",
      "doctor",
    ] {
      #expect(help.contains("  \(word) "))
    }
  }

  @Test func theVersionIsOneLine() throws {
    let child = try kvmclock("--version")
    child.expect(0)
    #expect(child.output == "0.1.0\n")
  }

  @Test(arguments: [
    ("frobnicate", "Unexpected argument 'frobnicate'"),
    ("run --seed twelve", "The value 'twelve' is invalid for '--seed <seed>'"),
    ("run --seed -1", "--seed"),
    ("run --seed 0x", "The value '0x' is invalid"),
    ("run --seed 18446744073709551616", "is invalid for '--seed <seed>'"),
    ("run --format pdf", "The value 'pdf' is invalid for '--format <format>'"),
    ("run --color pink", "The value 'pink' is invalid for '--color <color>'"),
    ("run NO-SUCH-THING-AT-ALL", "there is no rule 'NO-SUCH-THING-AT-ALL'. `kvmclock list`"),
    ("run VERSION-EVEM", "there is no rule 'VERSION-EVEM'. Did you mean VERSION-EVEN"),
    ("run PAGE", "Did you mean PAGE-SIZE-32, "),
    ("run ''", "there is no rule ''"),
    ("run VERSION-EVEN 'NONE*'", "no rule matches 'NONE*'"),
    (
      "run SUSPEND-STOPPED-FLAG",
      "needs a host that may be changed. On a scratch host, add --change-host"
    ),
    ("run 'VERSION-*' suspend-not-refused", "SUSPEND-NOT-REFUSED needs a host that may be changed"),
    ("list --format pdf", "The value 'pdf' is invalid for '--format <format>'"),
    ("list 'X?'", "no rule matches 'X?'"),
    ("explain", "Missing expected argument '<rules> ...'"),
    ("explain FOO", "there is no rule 'FOO'"),
    ("check", "Missing expected argument '<history> ...'"),
  ])
  func aWrongCommandLineIsExplained(arguments: String, complaint: String) throws {
    let child = try kvmclock(arguments)
    child.expect(64, complaint)
    #expect(child.complaint.contains("Usage: kvmclock"))
    #expect(child.output == "")
  }

  @Test func aComplaintThatQuotesTheCommandLineDoesNotMoveTheCursor() throws {
    let child = try Child("exec \"$K\" run \"$(printf 'A\\033[2J\\nB')\"", in: folder)
    child.expect(64, "there is no rule 'A [2J\nB'")
    #expect(!child.complaint.contains("\u{1b}"))
  }

  @Test(arguments: [
    ("'*'", 20), ("version-even", 1), ("'VERSION-*'", 2), ("'v*-E?EN'", 1), ("'*SIZE*' '*EVEN'", 2),
    ("'??GE-SIZE-32'", 1), ("'*-*-*-*' VERSION-EVEN", 2),
  ])
  func aGlobSelectsRules(pattern: String, atLeast: Int) throws {
    let child = try kvmclock("list \(pattern)")
    child.expect(0)
    #expect(child.output.split(separator: "\n").count >= atLeast)
    #expect(child.output.contains("VERSION-EVEN") || child.output.contains("PAGE-SIZE-32"))
  }

  @Test func aGlobOfManyStarsEndsSoon() throws {
    let stars = String(repeating: "*-", count: 5_000)
    try kvmclock("list '\(stars)!'").expect(64, "no rule matches")
  }

  @Test func aRuleIsExplainedWithItsSourceAndKnownDeviations() throws {
    let child = try kvmclock("explain rate-raw VERSION-EVEN")
    child.expect(0)
    for word in [
      "RATE-RAW\n", "VERSION-EVEN\n", "\n  source (document) ", "\n  method ", "\n  coverage ",
      "\n  owed since ", "Linux 5.5; before: ", "kernels before 6.3: ", "; excuses 1000 ppm",
    ] {
      #expect(child.output.contains(word), "\(word)")
    }
  }

  @Test func onlyARuleThatNothingBreaksIsExplainedAsNeverSeenToFail() throws {
    #expect(try kvmclock("explain RATE-BOOTTIME").output.contains("nothing so far"))
    #expect(try !kvmclock("explain VERSION-EVEN").output.contains("nothing so far"))
  }

  @Test func aPartOfTheCatalogueComesAsMarkdown() throws {
    let child = try kvmclock("list --format markdown VERSION-EVEN RATE-RAW")
    child.expect(0)
    let headings = child.output.split(separator: "\n").filter { $0.hasPrefix("#") }
    #expect(headings.contains("### VERSION-EVEN") && headings.contains("### RATE-RAW"))
    #expect(headings.count == 6)
  }

  /// It is started by `run --change-host`, and by nobody else.
  @Test(arguments: ["tsc", "/etc/passwd=x", "frequency=fast", "=", "/sys/power/pm_test"])
  func nothingButKnownSettingsIsPutBack(setting: String) throws {
    try kvmclock("restore-host \(setting)").expect(
      64, "is for the use of `run --change-host` alone")
  }

  @Test(arguments: ["done", ""])
  func whereNothingIsToBePutBackNothingIsSaid(farewell: String) throws {
    try Child("printf '\(farewell)' | \"$K\" restore-host", in: folder).expect(0)
  }

  /// The lab passes the rate to the kernels of emulated machines.
  @Test func theTSCIsMeasuredAlikeEachTime() throws {
    let rates = try (0..<2).map { _ in
      try #require(Double(try kvmclock("tsc-rate").output.dropLast()))
    }
    #expect(rates[0] > 100_000 && abs(rates[0] - rates[1]) / rates[0] < 1e-3, "\(rates)")
  }

  /// It made every command print the help and exit 0.
  @Test(.enabled(if: Host.canHideProc, Host.procReason))
  func withoutProcACommandDoesTheSame() throws {
    try folder.writeHistory("odd", versions: [2, 3, 4])
    for (arguments, code) in [
      ("--version", 0), ("explain VERSION-EVEN", 0), ("check odd", 1), ("check none", 66),
      ("list NO-SUCH-RULE", 64), ("run --device /dev/null", 69),
    ] {
      let usual = try kvmclock(arguments)
      #expect(usual.code == code)
      let child = try Child("exec \(Host.withoutProc) \"$K\" \(arguments)", in: folder)
      #expect(child.code == usual.code, "\(arguments)")
      #expect(child.output == usual.output)
      #expect(child.complaint == usual.complaint)
    }
  }

  @Test(
    .enabled(if: Host.canHideProc, Host.procReason), .enabled(if: Host.hasKVM, Host.reason))
  func withoutProcARunJudgesTheSameRules() throws {
    let child = try Child("exec \(Host.withoutProc) \"$K\" run 'VERSION-*'", in: folder)
    child.expect(0)
    #expect(child.output.contains("\nholds         VERSION-EVEN "))
  }

  @Test func aReaderWhoLeavesEarlyGetsNoComplaint() throws {
    let child = try Child("\"$K\" list | head -n 1", in: folder)
    child.expect(0)
    #expect(child.output.split(separator: "\n").count == 1)
  }

  @Test(arguments: ["", "trap '' PIPE;"])
  func aPipeThatNobodyReadsEndsQuietly(prelude: String) throws {
    let script = """
      \(prelude) mkfifo pipe; exec 3<>pipe; exec 4>pipe; exec 3<&-
      "$K" list >&4
      exit $?
      """
    try Child(script, in: folder).expect(141)
  }

  @Test(arguments: ["list", "--help", "--version", "explain VERSION-EVEN"])
  func aFullDiskAtStdoutIsReported(arguments: String) throws {
    let child = try Child("exec \"$K\" \(arguments) >/dev/full", in: folder)
    child.expect(74, "kvmclock: cannot write to stdout: No space left on device\n")
  }

  @Test func aClosedStdoutIsReported() throws {
    let child = try Child("exec \"$K\" list >&-", in: folder)
    child.expect(74, "kvmclock: cannot write to stdout: Bad file descriptor\n")
  }

  @Test func aClosedStderrIsNoReasonToCrash() throws {
    try Child("exec \"$K\" list nothing 2>&-", in: folder).expect(64)
  }
}
