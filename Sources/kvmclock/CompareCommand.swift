import ArgumentParser
import Reporting

/// Compares reports.
struct CompareCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "compare",
    abstract: "Say what is broken and what differs: on two kernels, two hosts or a thousand.",
    discussion: """
      The reports are those that `run --output FILE.json` and `check --output FILE.json` write. Of \
      two, the second is compared with the first; of more, each with what most of them say, or with \
      --baseline.

      EXIT STATUS
        0    no report breaks a rule
        1    one does, or no guest runs on its host; with --only-differences only a rule counts that the first report, or most, do not break
        2    no report breaks a rule, and one tested nothing
        65   a file is not a report; 66: it cannot be read
      """)

  @Argument(help: ArgumentHelp("Two or more reports.", valueName: "report"))
  var reports: [String]

  @Option(
    help: ArgumentHelp("Compare each report with this one.", valueName: "file"),
    completion: .file())
  var baseline: String?

  @Option(
    help: ArgumentHelp(
      "Group the reports by these facts, as kernel,backend,cpu; also clocksource and microcode.",
      valueName: "facts"))
  var by: String?

  @Flag(
    help: "Count only what differs: a rule that the first report, or most, break too is no failure."
  )
  var onlyDifferences = false

  @Option(
    help: ArgumentHelp(
      "What goes to stdout: text, json, markdown or html.", valueName: "format"),
    completion: .list(Comparison.formats.map(\.rawValue)))
  var format = ReportFormat.text

  @Option(
    help: ArgumentHelp(
      "Also write it to a file, in the format that its ending names: .txt, .json, .md or .html.",
      valueName: "file"))
  var output: [String] = []

  @Option(help: ArgumentHelp("Also write it as a page for a browser.", valueName: "file"))
  var html: [String] = []

  func validate() throws {
    guard all.count >= 2 else { throw ValidationError("Name two reports or more.") }
    _ = try facts()
    guard Comparison.formats.contains(format) else {
      throw ValidationError("A comparison has no format \(format.rawValue).")
    }
    for path in output {
      guard let format = ReportFormat(path: path), Comparison.formats.contains(format) else {
        throw ValidationError(
          "'\(path)' has an ending that names no format of a comparison. "
            + "Let it end in .txt, .json, .md or .html.")
      }
    }
  }

  private var all: [String] { (baseline.map { [$0] } ?? []) + reports }

  private func facts() throws -> [Comparison.Fact] {
    try (by ?? "").split(separator: ",").map { name in
      guard let fact = Comparison.Fact(rawValue: String(name)) else {
        let names = Comparison.Fact.allCases.map(\.rawValue).joined(separator: ", ")
        throw ValidationError("--by takes \(names), not '\(name)'.")
      }
      return fact
    }
  }

  func run() throws {
    var saved: [SavedReport] = []
    var failure: Failure?
    for path in all {
      do { saved.append(try SavedReport.read(path)) } catch {
        failure = failure ?? Failure(error)
        Output.complain(Failure(error).message)
      }
    }
    // One that cannot be read must not make the others look alike.
    guard failure == nil || saved.count >= 2 else { throw ExitCode(failure?.code ?? 65) }
    let isThere = baseline == nil || saved.first?.path == baseline
    guard isThere else { throw ExitCode(failure?.code ?? 65) }
    let comparison = Comparison(
      saved, onlyDifferences: onlyDifferences, hasBaseline: baseline != nil, by: try facts())
    var isComplete = true
    let files = output.compactMap { path in ReportFormat(path: path).map { (path, $0) } }
    for (path, format) in files + html.map({ ($0, .html) }) {
      do { try ReportFile.write(comparison.render(format), to: path) } catch {
        isComplete = false
        Output.complain(Failure(error).message)
      }
    }
    do { try Output.write(comparison.render(format, width: Output.width)) } catch {
      isComplete = false
      Output.complain(error.message)
    }
    if comparison.exitCode != 0 { throw ExitCode(comparison.exitCode) }
    if !isComplete { throw ExitCode(74) }
    if let failure { throw ExitCode(failure.code) }
  }
}
