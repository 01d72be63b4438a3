import java.io.*;
import java.nio.*;
import java.nio.file.*;
import java.util.*;

import static java.nio.charset.StandardCharsets.UTF_8;

/** An engine for logitproof in Java 11 without packages: the protocol, and the toy model in place of yours. */
public class Engine {
    /** The engine. Replace it: load makes weights ready, begin empties the cache, feed turns a token into logits. */
    static class Toy {
        static final int WIDTH = 16, CONTEXT = 4096;
        int size;
        double[] embedding, head, state;

        void load(String path) throws Fault {
            Object seed;
            try {
                Map<?, ?> record = (Map<?, ?>) new Json(new String(Files.readAllBytes(Paths.get(path)), UTF_8)).whole();
                size = integer(record, "vocab_size", 257, 1 << 24);
                seed = record.get("seed");
            } catch (IOException | RuntimeException | Fault error) {
                throw new Fault("refused", "model", path + " is no toy model: " + error);
            }
            int begin = mix(((Number) seed).intValue());
            double[] weights = new double[2 * size * WIDTH];
            for (int n = 0; n < weights.length; n++)
                weights[n] = (Integer.toUnsignedLong(mix(begin + n)) / 4294967296.0 - 0.5) * Math.sqrt(12);
            embedding = Arrays.copyOf(weights, size * WIDTH);
            head = Arrays.copyOfRange(weights, size * WIDTH, weights.length);
        }

        void begin() {
            state = new double[WIDTH];
        }

        float[] feed(int token) {
            for (int i = 0; i < WIDTH; i++) state[i] = Math.tanh(0.6 * state[i] + embedding[token * WIDTH + i]);
            float[] row = new float[size];
            for (int n = 0; n < size; n++) {
                double sum = 0;
                for (int i = 0; i < WIDTH; i++) sum += state[i] * head[i * size + n];
                row[n] = (float) sum;
            }
            return row;
        }

        static int mix(int x) {
            x = (x ^ x >>> 16) * 0x7FEB352D;
            x = (x ^ x >>> 15) * 0x846CA68B;
            return x ^ x >>> 16;
        }
    }

    /** Why a request is not answered. */
    static class Fault extends Exception {
        private static final long serialVersionUID = 1;
        final String kind, field;

        Fault(String kind, String field, String message) {
            super(message);
            this.kind = kind;
            this.field = field;
        }
    }

    /** Parameters by method; one that is not known is refused, since it could change a logit. */
    static final Map<String, List<String>> METHODS = Map.of(
        "hello", List.of("protocol", "options"), "load", List.of("model", "config"), "close", List.of(),
        "score", List.of("token_ids", "mode", "logits"), "generate", List.of("token_ids", "max_new_tokens", "stop", "logits"));

    private Toy toy;

    String answer(String method, Map<?, ?> params) throws Fault, IOException {
        if (!METHODS.containsKey(method)) throw new Fault("unsupported", "method", "no method is called " + method);
        for (Object name : params.keySet())
            if (!METHODS.get(method).contains(name)) throw new Fault("refused", "", method + " has no parameter " + name);
        if (method.equals("hello"))
            return "{\"protocol\": 1, \"engine\": \"toy-java\", \"modes\": [\"prefill\", \"decode\"], \"generate\": true, "
                + "\"versions\": {\"toy-java\": \"1\", \"java\": " + Json.quoted(System.getProperty("java.version")) + "}}";
        if (method.equals("close")) return "{}";
        if (method.equals("load")) {
            toy = null;
            Toy made = new Toy();
            made.load(text(params, "model"));
            toy = made;
            return "{\"vocab_size\": " + toy.size + ", \"context_length\": " + Toy.CONTEXT + ", \"eos_token_ids\": [0]}";
        }
        if (toy == null) throw new Fault("refused", "model", "no model is loaded");
        int[] ids = tokens(params, "token_ids");
        if (ids.length == 0 || ids.length > Toy.CONTEXT) throw new Fault("refused", "token_ids", "1 to " + Toy.CONTEXT + " tokens are taken");
        return method.equals("score") ? score(params, ids) : generate(params, ids);
    }

    /** The toy has one way to compute; an engine with batches would score a prefill in one of them. */
    private String score(Map<?, ?> params, int[] ids) throws Fault, IOException {
        if (!List.of("prefill", "decode").contains(text(params, "mode"))) throw new Fault("refused", "mode", "prefill or decode");
        List<float[]> rows = new ArrayList<>();
        toy.begin();
        for (int id : ids) rows.add(toy.feed(id));
        return "{" + write(params, rows) + "}";
    }

    private String generate(Map<?, ?> params, int[] ids) throws Fault, IOException {
        int most = integer(params, "max_new_tokens", 0, Toy.CONTEXT);
        int[] stop = params.containsKey("stop") ? tokens(params, "stop") : new int[0];
        List<float[]> rows = new ArrayList<>();
        List<Integer> made = new ArrayList<>();
        String finish = "length";
        float[] row = null;
        toy.begin();
        for (int id : ids) row = toy.feed(id);
        while (made.size() < most && finish.equals("length")) {
            int best = 0;
            for (int n = 1; n < row.length; n++) best = row[n] > row[best] ? n : best;
            rows.add(row);
            made.add(best);
            row = toy.feed(best);
            for (int id : stop) finish = id == best ? "stop" : finish;
        }
        return "{" + write(params, rows) + ", \"token_ids\": " + made + ", \"finish\": \"" + finish + "\"}";
    }

    private int[] tokens(Map<?, ?> params, String name) throws Fault {
        if (!(params.get(name) instanceof List)) throw new Fault("refused", name, "a list of token ids is missing");
        List<?> list = (List<?>) params.get(name);
        int[] ids = new int[list.size()];
        for (int n = 0; n < ids.length; n++) ids[n] = integer(Map.of(name, list.get(n)), name, 0, toy.size - 1);
        return ids;
    }

    static int integer(Map<?, ?> params, String name, int least, int most) throws Fault {
        Object found = params.get(name);
        double number = found instanceof Double ? (Double) found : Double.NaN;
        if (!(number >= least && number <= most && number == Math.rint(number)))
            throw new Fault("refused", name, found + " is none of " + least + " to " + most);
        return (int) number;
    }

    static String text(Map<?, ?> params, String name) throws Fault {
        if (!(params.get(name) instanceof String)) throw new Fault("refused", name, "it is missing");
        return (String) params.get(name);
    }

    /** Rows as raw little-endian float32, whole before the answer is sent; the JSON that announces them. */
    private String write(Map<?, ?> params, List<float[]> rows) throws Fault, IOException {
        String path = text(params, "logits");
        ByteBuffer bytes = ByteBuffer.allocate(rows.size() * toy.size * 4).order(ByteOrder.LITTLE_ENDIAN);
        for (float[] row : rows) for (float value : row) bytes.putFloat(value);
        Files.write(Paths.get(path), bytes.array());
        return "\"logits\": {\"path\": " + Json.quoted(path) + ", \"dtype\": \"float32\", \"shape\": [" + rows.size() + ", " + toy.size + "]}";
    }

    public static void main(String[] arguments) throws IOException {
        Engine engine = new Engine();
        PrintStream answers = new PrintStream(new FileOutputStream(FileDescriptor.out), true, "UTF-8");
        BufferedReader requests = new BufferedReader(new InputStreamReader(System.in, UTF_8));
        System.setOut(System.err); // whatever prints, stdout is the protocol's
        for (String line, method = ""; !method.equals("close") && (line = requests.readLine()) != null; ) {
            int id = -1;
            String said;
            try {
                Map<?, ?> request = (Map<?, ?>) new Json(line).whole();
                id = integer(request, "id", 0, Integer.MAX_VALUE);
                method = text(request, "method");
                Object params = request.get("params");
                said = "\"result\": " + engine.answer(method, params == null ? Map.of() : (Map<?, ?>) params);
            } catch (IOException | RuntimeException | Fault error) {
                method = "";
                Fault fault = error instanceof Fault ? (Fault) error : new Fault(error instanceof IOException ? "environment" : "refused", "", error.toString());
                said = "\"error\": {\"kind\": \"" + fault.kind + "\", \"field\": \"" + fault.field + "\", \"message\": " + Json.quoted(fault.getMessage()) + "}";
            }
            answers.print("{\"id\": " + id + ", " + said + "}\n");
            answers.flush();
        }
    }
}
