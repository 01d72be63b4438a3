// A template: `apply(from = "gradle/parity.gradle.kts")` in build.gradle.kts, then `./gradlew -q parity`.
// The command line prints whatever it likes, and between two marker lines the text, then the ids that it fed and chose:
//
//     Prompt Token IDs: [7, 3, 42]
//     ====================
//     the generated text
//     ====================
//     Token IDs: [24, 29, 46]
//
// build/parity/cli.txt is then a dump of the format `marked_text`, and build/parity/*.jsonl are rows of the format `ndjson`.

val parityDir = layout.buildDirectory.dir("parity")

tasks.register<JavaExec>("parity") {
    group = "verification"
    description = "Runs both code paths on the prompts of ids.yaml and keeps what they print and write."
    classpath = project.the<SourceSetContainer>()["main"].runtimeClasspath
    mainClass.set("org.example.ParityCli") // to supply: the engine's command line
    args("--model", providers.gradleProperty("parity.model").getOrElse("models/Qwen3-0.6B"))
    args("--paths", "new,legacy", "--out", parityDir.get().asFile.path)
    doFirst {
        parityDir.get().asFile.mkdirs()
        standardOutput = parityDir.get().file("cli.txt").asFile.outputStream()
    }
    outputs.upToDateWhen { false } // a dump of another build proves nothing
}

tasks.register<Exec>("parityCheck") {
    group = "verification"
    description = "Compares what `parity` wrote with the references; fails where the contract does."
    dependsOn("parity")
    commandLine("logitproof", "check", "parity/full.parity.yaml", "--out", parityDir.get().dir("run").asFile.path, "--fresh")
}
