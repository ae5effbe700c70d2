import ABIChecker
import ArgumentParser
import Glibc
import Reporting

enum ReportFormat: String, ExpressibleByArgument, CaseIterable { case text, ktap }

enum Colour: String, ExpressibleByArgument, CaseIterable { case auto, always, never }

/// How verdicts are shown and counted.
struct ReportOptions: ParsableArguments {
  @Option(help: "text for people, ktap for test runners.")
  var format = ReportFormat.text

  @Flag(help: "Count known deviations of shipped kernels as broken.")
  var strict = false

  @Option(name: .customLong("color"), help: "auto: on a terminal, unless NO_COLOR is set.")
  var colour = Colour.auto

  func render(_ report: Report, showsTimings: Bool = false) -> String {
    switch format {
    case .ktap: KTAPReport(report, showsTimings: showsTimings).text
    case .text:
      TextReport(
        report, coloured: isColoured, width: Output.width, showsTimings: showsTimings
      ).text
    }
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
