import ABIChecker
import ArgumentParser
import Glibc
import Reporting

extension ReportFormat: ExpressibleByArgument {}

enum Colour: String, ExpressibleByArgument, CaseIterable { case auto, always, never }

/// How verdicts are shown and counted.
struct ReportOptions: ParsableArguments {
  @Option(
    help: """
      What goes to stdout: text for people, ktap and junit for test runners, json and jsonl for \
      programs, markdown for issues and job summaries, html for a browser. A run writes ktap and \
      jsonl verdict by verdict, as each becomes final.
      """)
  var format = ReportFormat.text

  @Option(
    help: ArgumentHelp(
      "Also write the report to a file, in the format that its ending names: \(ReportFile.endings). "
        + "May be given several times.",
      valueName: "file"))
  var output: [String] = []

  @Option(
    help: ArgumentHelp(
      "Also write the report as one page with pictures, for a browser; the same as --output FILE.html.",
      valueName: "file"))
  var html: [String] = []

  @Option(
    help: ArgumentHelp(
      "Show what `policies --output` or `faults --output` wrote; in html, markdown and json.",
      valueName: "file"))
  var include: [String] = []

  @Flag(name: .shortAndLong, help: "Show each rule, not only what calls for attention.")
  var verbose = false

  @Flag(
    name: [.customShort("q"), .customLong("quiet")],
    help: "Print the answer alone, on one line, and no progress.")
  var isQuiet = false

  @Flag(help: "Count known deviations of shipped kernels as broken.")
  var strict = false

  @Option(
    help: ArgumentHelp(
      "Your own known deviations, as JSON: a list of {\"rule\", \"cause\", \"source\"}, with "
        + "\"since\" and \"until\" (a kernel) if need be. May be given several times.",
      valueName: "file"),
    completion: .file())
  var known: [String] = []

  @Flag(
    help: """
      As kselftest has it: KTAP with topics as subtests, exit status 4 where nothing can be tested, \
      0 where something could not be decided.
      """)
  var kselftest = false

  @Flag(
    help: "For GitHub Actions: broken rules as annotations, and the report as the job's summary.")
  var github = false

  @Option(name: .customLong("color"), help: "auto: on a terminal, unless NO_COLOR is set.")
  var colour = Colour.auto

  mutating func validate() throws {
    if kselftest { format = .ktap }
    for path in output where ReportFormat(path: path) == nil {
      throw ValidationError(
        "'\(path)' has an ending that names no format. Let it end in \(ReportFile.endings).")
    }
  }

  /// The files to write, each in its format.
  private var files: [(path: String, format: ReportFormat)] {
    output.compactMap { path in ReportFormat(path: path).map { (path, $0) } }
      + html.map { ($0, .html) }
  }

  /// Whether a report is asked for that shows what was recorded.
  var showsHistories: Bool { format.showsHistories || files.contains { $0.format.showsHistories } }

  /// The tables to show.
  func tables() throws(Failure) -> [BenchTable] {
    var tables: [BenchTable] = []
    for path in include {
      do { tables.append(try BenchTable.read(path)) } catch { throw Failure(error) }
    }
    return tables
  }

  /// Finds out before a run whether its reports can be written.
  func prepare() throws(Failure) {
    _ = try ownDeviations()
    for (path, _) in files {
      do { try ReportFile.probe(path) } catch { throw Failure(error) }
    }
  }

  /// The user's own list of known deviations.
  private func ownDeviations() throws(Failure) -> [KnownDeviation] {
    var all: [KnownDeviation] = []
    for path in known {
      do { all += try KnownDeviation.read(path) } catch { throw Failure(error) }
    }
    return all
  }

  /// The report with the user's own known deviations excused, and as strict as asked for.
  func settled(_ report: Report) throws(Failure) -> Report {
    var report = report
    report.strict = strict
    report.excuse(try ownDeviations())
    return report
  }

  /// What the exit status says of a report.
  func exitCode(of report: Report) -> Int32 {
    guard kselftest, report.exitCode != 1 else { return report.exitCode }
    return report.isEmpty ? 4 : 0
  }

  /// What goes to stdout while a run goes on; nil for a format that is written in one piece.
  func stream(for rules: [Rule]) -> VerdictStream? {
    VerdictStream(
      format, rules: rules.map(\.id), style: ReportStyle(hasSubtests: kselftest)
    ) { try Output.write($0) }
  }

  /// Writes the files, each whatever becomes of the others, and then stdout.
  ///
  /// - Parameter stream: what stdout has got already, if it has.
  /// - Returns: whether all could be written. What could not does not hide what was found.
  func deliver(
    _ reports: [Report], style: ReportStyle = ReportStyle(), stream: VerdictStream? = nil
  ) -> Bool {
    var style = style
    style.hasSubtests = kselftest
    var isComplete = true
    func attempt(_ write: () throws -> Void) {
      do { try write() } catch {
        isComplete = false
        let failure = (error as? Failure) ?? (error as? FileError).map { Failure($0) }
        Output.complain(failure?.message ?? "kvmclock: \(error)")
      }
    }
    for (path, format) in files {
      let texts = reports.map { format.render($0, style: style) }
      attempt { try ReportFile.write(texts.joined(separator: "\n"), to: path) }
    }
    if let stream {
      for report in reports { stream.end(report) }
      if let failure = stream.failure { attempt { throw failure } }
    } else {
      let texts = reports.map { render($0, style: style) }
      attempt { try Output.write(texts.joined(separator: "\n")) }
    }
    guard github else { return isComplete }
    attempt { try Output.write(reports.map { GitHubAnnotations($0).text }.joined()) }
    if let path = getenv("GITHUB_STEP_SUMMARY").map({ String(cString: $0) }), !path.isEmpty {
      let text = reports.map { MarkdownReport($0).text }.joined(separator: "\n")
      attempt { try ReportFile.append(text, to: path) }
    }
    return isComplete
  }

  /// Whether a format was asked for that has no room for several reports.
  var needsOneReport: Bool {
    ([format] + files.map(\.format)).contains { !$0.holdsSeveral }
  }

  private func render(_ report: Report, style: ReportStyle) -> String {
    guard format == .text else { return format.render(report, style: style) }
    guard !isQuiet else { return report.answer + "\n" }
    return TextReport(
      report, coloured: isColoured, width: Output.width, style: style
    ).text
  }

  private var isColoured: Bool {
    switch colour {
    case .always: true
    case .never: false
    case .auto:
      Output.isTerminal && !isSet("NO_COLOR") && getenv("TERM").map { strcmp($0, "dumb") } != 0
    }
  }

  private func isSet(_ variable: String) -> Bool {
    getenv(variable).map { $0.pointee != 0 } ?? false
  }
}

/// The seed of all random choices: decimal, or hexadecimal with 0x.
struct Seed: ExpressibleByArgument {
  var value: UInt64

  init?(argument: String) {
    let text = argument.lowercased()
    let value = text.hasPrefix("0x") ? UInt64(text.dropFirst(2), radix: 16) : UInt64(text)
    guard let value, text.allSatisfy({ $0 != "+" }) else { return nil }
    self.value = value
  }
}
