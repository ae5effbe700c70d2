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
      What goes to stdout: text for people, ktap and junit for test runners, json for programs, \
      markdown for issues and job summaries, html for a browser.
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

  @Flag(help: "Count known deviations of shipped kernels as broken.")
  var strict = false

  @Option(name: .customLong("color"), help: "auto: on a terminal, unless NO_COLOR is set.")
  var colour = Colour.auto

  func validate() throws {
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
    for (path, _) in files {
      do { try ReportFile.probe(path) } catch { throw Failure(error) }
    }
  }

  /// Writes the files, each whatever becomes of the others, and then stdout.
  ///
  /// - Returns: whether all could be written. What could not does not hide what was found.
  func deliver(_ reports: [Report], style: ReportStyle = ReportStyle()) -> Bool {
    var isComplete = true
    for (path, format) in files {
      let texts = reports.map { format.render($0, style: style) }
      do { try ReportFile.write(texts.joined(separator: "\n"), to: path) } catch {
        isComplete = false
        Output.complain(Failure(error).message)
      }
    }
    let texts = reports.map { render($0, style: style) }
    do { try Output.write(texts.joined(separator: "\n")) } catch {
      isComplete = false
      Output.complain(error.message)
    }
    return isComplete
  }

  /// Whether a format was asked for that has no room for several reports.
  var needsOneReport: Bool {
    ([format] + files.map(\.format)).contains { !$0.holdsSeveral }
  }

  private func render(_ report: Report, style: ReportStyle) -> String {
    guard format == .text else { return format.render(report, style: style) }
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
