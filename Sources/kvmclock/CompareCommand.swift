import ArgumentParser
import Reporting

/// Compares reports.
struct CompareCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "compare",
    abstract: "Say what is broken and what differs: on two kernels, two hosts or a thousand.",
    discussion: """
      The reports are those that `run --output FILE.json` and `check --output FILE.json` write. Of \
      two, the second is compared with the first; of more, each with what most of them say.

      EXIT STATUS
        0    no report breaks a rule
        1    one does, or no guest runs on its host; with --only-differences only a rule counts that the first report, or most, do not break
        2    no report breaks a rule, and one tested nothing
        65   a file is not a report; 66: it cannot be read
      """)

  @Argument(help: ArgumentHelp("Two or more reports.", valueName: "report"))
  var reports: [String]

  @Flag(
    help: "Count only what differs: a rule that the first report, or most, break too is no failure."
  )
  var onlyDifferences = false

  @Option(help: "What goes to stdout: text, json, markdown or html.")
  var format = ReportFormat.text

  @Option(
    help: ArgumentHelp(
      "Also write it to a file, in the format that its ending names: .txt, .json, .md or .html.",
      valueName: "file"))
  var output: [String] = []

  @Option(help: ArgumentHelp("Also write it as a page for a browser.", valueName: "file"))
  var html: [String] = []

  func validate() throws {
    guard reports.count >= 2 else { throw ValidationError("Name two reports or more.") }
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

  func run() throws {
    var saved: [SavedReport] = []
    var failure: Failure?
    for path in reports {
      do { saved.append(try SavedReport.read(path)) } catch {
        failure = failure ?? Failure(error)
        Output.complain(Failure(error).message)
      }
    }
    // One that cannot be read must not make the others look alike.
    guard failure == nil || saved.count >= 2 else { throw ExitCode(failure?.code ?? 65) }
    let comparison = Comparison(saved, onlyDifferences: onlyDifferences)
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
